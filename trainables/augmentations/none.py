"""No augmentation."""

from typing import final

from torch import nn
from typing_extensions import override

from trainables.augmentations.base import Augmentation, AugmentationConfig, evaluation_transform
from trainables.data.geometry import Geometry


@final
class NoAugmentation(Augmentation):
    """Resize and centre crop, as at test time."""

    @staticmethod
    @override
    def build(config: AugmentationConfig, geometry: Geometry) -> nn.Module:
        return evaluation_transform(geometry)
