"""Weak augmentation, as in the paper."""

from typing import final

from torch import nn
from torchvision.transforms import v2
from typing_extensions import override

from trainables.augmentations.base import Augmentation, AugmentationConfig, flip
from trainables.data.geometry import Geometry


@final
class WeakAugmentation(Augmentation):
    """Resize, random crop and flip."""

    @staticmethod
    @override
    def build(config: AugmentationConfig, geometry: Geometry) -> nn.Module:
        return v2.Compose(
            [
                v2.Resize(geometry.resize_size, antialias=True),
                v2.RandomCrop(
                    geometry.crop_size, padding=geometry.padding or None, padding_mode="edge"
                ),
                *flip(geometry),
            ]
        )
