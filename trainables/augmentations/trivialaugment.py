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

    One operation of random strength from the paper's "wide" range: rotations reach 135 degrees and
    shifts 32 pixels, which digits and small images do not survive. The method has no strength to
    tune; how often it applies is a setting of this project.
    """

    class Config(AugmentationConfig):
        """The defaults are the paper's."""

        min_scale: float = Field(0.08, gt=0, le=1)
        """Smallest share of the image's area that a crop keeps."""
        probability: float = Field(1.0, ge=0, le=1)
        """How often an image gets an operation."""

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
