"""Base class of augmentations, and the transforms that all images share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torchvision.transforms import v2

from trainables.configuration.schema import BaseConfig
from trainables.data.geometry import Geometry


class AugmentationConfig(BaseConfig):
    """Settings common to all augmentations."""

    images_per_draw: PositiveInt = 1
    """Images of a batch that share one random draw; 1 as in the paper. A larger number is faster
    by about that factor for small images in memory, and an error for images of several sizes."""


class Augmentation(ABC):
    """An augmentation, which builds a transform of training images."""

    Config = AugmentationConfig

    @staticmethod
    @abstractmethod
    def build(config: AugmentationConfig, geometry: Geometry) -> nn.Module:
        """Build the transform.

        Args:
            config: Settings of the augmentation.
            geometry: Image sizes of the task.

        Returns:
            A module from uint8 ``(…, 3, H, W)`` to uint8 ``(…, 3, crop_size, crop_size)``.
        """


def evaluation_transform(geometry: Geometry) -> nn.Module:
    """Return resize and centre crop, uint8 to uint8."""
    return v2.Compose(
        [
            v2.Resize(geometry.resize_size, antialias=True),
            v2.CenterCrop(geometry.crop_size),
        ]
    )


def flip(geometry: Geometry) -> list[nn.Module]:
    """Return a horizontal flip with probability 0.5, where mirrored images keep their class."""
    return [v2.RandomHorizontalFlip()] if geometry.mirror else []


STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "subset_visda": ((0.8781, 0.8769, 0.8743), (0.2075, 0.2105, 0.2168)),
    "subset_syn": ((0.4890, 0.4486, 0.4644), (0.2386, 0.2528, 0.2712)),
}
"""Mean and standard deviation of the colour channels, in ``[0, 1]``, from the release."""


def normalize(images: Tensor, statistics: str) -> Tensor:
    """Normalise uint8 images ``(B, 3, H, W)`` by one of :data:`STATISTICS`."""
    return standardize(images, *STATISTICS[statistics])


def standardize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Scale uint8 images to ``[0, 1]``, subtract the mean and divide by the standard deviation.

    Args:
        images: uint8, shape ``(B, 3, H, W)``.
        mean: Mean of each channel, in ``[0, 1]``.
        std: Standard deviation of each channel, in ``[0, 1]``.

    Returns:
        float32, shape ``(B, 3, H, W)``, in memory format ``channels_last``.
    """
    centre, scale = (
        images.new_tensor(values, dtype=torch.float32).view(1, 3, 1, 1) for values in (mean, std)
    )
    scaled = (images.float() / 255 - centre) / scale
    return scaled.contiguous(memory_format=torch.channels_last)
