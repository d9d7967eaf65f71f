"""Augmentations of training images: one file each, named in the table ``AUGMENTATIONS``.

An augmentation imports ``base`` and the packages below: ``nn``, ``data``, ``checkpointing``,
``runtime`` and ``configuration``; never another augmentation or another table. (``consistency``,
which is no entry, builds on ``weak``.) Plugins import all they need from here:
``from trainables.augmentations import Augmentation, AugmentationConfig, Geometry``.
"""

from trainables.augmentations.base import (
    STATISTICS,
    Augmentation,
    AugmentationConfig,
    evaluation_transform,
    normalize,
    standardize,
)
from trainables.augmentations.consistency import consistency_view
from trainables.augmentations.none import NoAugmentation
from trainables.augmentations.randaugment import RandAugment
from trainables.augmentations.strong import StrongAugmentation
from trainables.augmentations.trivialaugment import TrivialAugment
from trainables.augmentations.weak import WeakAugmentation
from trainables.configuration.schema import Table
from trainables.data.geometry import Geometry

AUGMENTATIONS: Table[type[Augmentation]] = Table(
    "augmentation",
    Augmentation,
    {
        "none": NoAugmentation,
        "randaugment": RandAugment,
        "strong": StrongAugmentation,
        "trivialaugment": TrivialAugment,
        "weak": WeakAugmentation,
    },
)

__all__ = [
    "AUGMENTATIONS",
    "STATISTICS",
    "Augmentation",
    "AugmentationConfig",
    "Geometry",
    "NoAugmentation",
    "RandAugment",
    "StrongAugmentation",
    "TrivialAugment",
    "WeakAugmentation",
    "consistency_view",
    "evaluation_transform",
    "normalize",
    "standardize",
]
