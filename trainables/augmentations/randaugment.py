"""RandAugment."""

from typing import final

from pydantic import Field, PositiveInt
from torch import nn
from torchvision.transforms import v2
from typing_extensions import override

from trainables.augmentations.base import Augmentation, AugmentationConfig, flip
from trainables.data.geometry import Geometry

_NUM_MAGNITUDES = 31


@final
class RandAugment(Augmentation):
    """Random resized crop, flip, RandAugment (Cubuk et al., NeurIPS 2020, arXiv:1909.13719)."""

    class Config(AugmentationConfig):
        """The defaults are those of torchvision."""

        min_scale: float = Field(0.08, gt=0, le=1)
        """Minimum share of the image's area in a crop; the maximum is 1."""
        num_operations: PositiveInt = 2
        """Operations on each image, drawn from 14: colour, sharpness, shear, translation, rotation
        by at most 30 degrees and others."""
        magnitude: int = Field(9, ge=0, lt=_NUM_MAGNITUDES)
        """Strength of all operations, 0 to 30."""

    @staticmethod
    @override
    def build(config: AugmentationConfig, geometry: Geometry) -> nn.Module:
        assert isinstance(config, RandAugment.Config)
        return v2.Compose(
            [
                v2.RandomResizedCrop(
                    geometry.crop_size, scale=(config.min_scale, 1), antialias=True
                ),
                *flip(geometry),
                v2.RandAugment(config.num_operations, config.magnitude, _NUM_MAGNITUDES),
            ]
        )
