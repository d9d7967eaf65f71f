"""Strong augmentation, as in the paper."""

from typing import final

from pydantic import Field, NonNegativeFloat
from torch import nn
from torchvision.transforms import v2
from typing_extensions import override

from trainables.augmentations.base import Augmentation, AugmentationConfig, flip
from trainables.data.geometry import Geometry


@final
class StrongAugmentation(Augmentation):
    """Random resized crop, flip, colour jitter, greyscale and Gaussian blur."""

    class Config(AugmentationConfig):
        """The defaults are those of the paper."""

        min_scale: float = Field(0.08, gt=0, le=1)
        """Minimum share of the image's area in a crop; the maximum is 1."""
        brightness: NonNegativeFloat = 0.4
        """Brightness factors are uniform in ``1 ± brightness``."""
        contrast: NonNegativeFloat = 0.4
        """Contrast factors are uniform in ``1 ± contrast``."""
        saturation: NonNegativeFloat = 0.2
        """Saturation factors are uniform in ``1 ± saturation``."""
        hue: float = Field(0.1, ge=0, le=0.5)
        """Hue shifts are uniform in ``± hue`` turns of the colour circle."""
        jitter_probability: float = Field(0.8, ge=0, le=1)
        """Probability of colour jitter."""
        grayscale_probability: float = Field(0.2, ge=0, le=1)
        """Probability of greyscale."""
        blur_probability: float = Field(0.5, ge=0, le=1)
        """Probability of blur."""
        blur_radius: float = Field(2.0, ge=0.1)
        """Maximum standard deviation of the blur in pixels; the minimum is 0.1."""

    @staticmethod
    @override
    def build(config: AugmentationConfig, geometry: Geometry) -> nn.Module:
        assert isinstance(config, StrongAugmentation.Config)
        jitter = v2.ColorJitter(config.brightness, config.contrast, config.saturation, config.hue)
        blur = v2.GaussianBlur(_kernel_size(config.blur_radius), (0.1, config.blur_radius))
        return v2.Compose(
            [
                v2.RandomResizedCrop(
                    geometry.crop_size, scale=(config.min_scale, 1), antialias=True
                ),
                *flip(geometry),
                v2.RandomApply([jitter], p=config.jitter_probability),
                v2.RandomGrayscale(config.grayscale_probability),
                v2.RandomApply([blur], p=config.blur_probability),
            ]
        )


def _kernel_size(radius: float) -> int:
    """Return an odd width of three standard deviations on each side, so that little is cut off."""
    return 2 * round(3 * radius) + 1
