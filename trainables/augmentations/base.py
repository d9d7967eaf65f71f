"""What an augmentation is, and what all images go through."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torchvision.transforms import v2

from trainables.configuration.schema import BaseConfig
from trainables.data.geometry import Geometry


class AugmentationConfig(BaseConfig):
    """Settings that every augmentation has."""

    images_per_draw: PositiveInt = 1
    """Images of a batch that share one random draw. 1 is the paper's; a larger number is faster
    by about that factor on small images held in memory, and an error for images from files."""


class Augmentation(ABC):
    """Builds a transform of training images from its settings and the task's sizes."""

    Config = AugmentationConfig

    @staticmethod
    @abstractmethod
    def build(config: AugmentationConfig, geometry: Geometry) -> nn.Module:
        """A transform of uint8 ``(…, 3, H, W)`` to uint8 ``(…, 3, crop_size, crop_size)``."""


def evaluation_transform(geometry: Geometry) -> nn.Module:
    """Resize and centre crop, uint8 to uint8."""
    return v2.Compose(
        [
            v2.Resize(geometry.resize_size, antialias=True),
            v2.CenterCrop(geometry.crop_size),
        ]
    )


def flip(geometry: Geometry) -> list[nn.Module]:
    """A mirror image half of the time, where the task's classes allow it."""
    return [v2.RandomHorizontalFlip()] if geometry.mirror else []


STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "subset_visda": ((0.8781, 0.8769, 0.8743), (0.2075, 0.2105, 0.2168)),
    "subset_syn": ((0.4890, 0.4486, 0.4644), (0.2386, 0.2528, 0.2712)),
}
"""Mean and standard deviation of the colour channels, as the paper's release has them."""


def normalize(images: Tensor, statistics: str) -> Tensor:
    """Scales uint8 images ``(B, 3, H, W)`` to floats of about zero mean and unit variance."""
    return standardize(images, *STATISTICS[statistics])


def standardize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtracts the channels' means and divides by their deviations, both of ``[0, 1]`` images."""
    centre, scale = (
        images.new_tensor(values, dtype=torch.float32).view(1, 3, 1, 1) for values in (mean, std)
    )
    scaled = (images.float() / 255 - centre) / scale
    return scaled.contiguous(memory_format=torch.channels_last)
