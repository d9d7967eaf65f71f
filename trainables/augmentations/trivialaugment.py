"""TrivialAugment."""

from typing import final

from pydantic import Field
from torch import nn
from torchvision.transforms import v2
from typing_extensions import override

from trainables.augmentations.base import Augmentation, AugmentationConfig, flip
from trainables.data.geometry import Geometry


@final
class TrivialAugment(Augmentation):
    """Random resized crop, flip, TrivialAugment (Müller & Hutter, ICCV 2021, arXiv:2103.10158).

    Each image gets one operation of random strength from the paper's "wide" range. Rotations reach
    135 degrees and translations 32 pixels, too much for digits and small images. The method has no
    strength to tune; ``probability`` is a setting of this project.
    """

    class Config(AugmentationConfig):
        """The defaults are those of the paper."""

        min_scale: float = Field(0.08, gt=0, le=1)
        """Minimum share of the image's area in a crop; the maximum is 1."""
        probability: float = Field(1.0, ge=0, le=1)
        """Probability that an image gets an operation."""

    @staticmethod
    @override
    def build(config: AugmentationConfig, geometry: Geometry) -> nn.Module:
        assert isinstance(config, TrivialAugment.Config)
        return v2.Compose(
            [
                v2.RandomResizedCrop(
                    geometry.crop_size, scale=(config.min_scale, 1), antialias=True
                ),
                *flip(geometry),
                v2.RandomApply([v2.TrivialAugmentWide()], p=config.probability),
            ]
        )
