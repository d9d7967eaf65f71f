"""Every augmentation of the table keeps to the contract."""

from tests.contracts import AugmentationContract
from trainables.augmentations import (
    AUGMENTATIONS,
    NoAugmentation,
    RandAugment,
    StrongAugmentation,
    TrivialAugment,
    WeakAugmentation,
)


class TestNoAugmentation(AugmentationContract):
    augmentation = NoAugmentation
    is_random = False


class TestRandAugment(AugmentationContract):
    augmentation = RandAugment


class TestStrongAugmentation(AugmentationContract):
    augmentation = StrongAugmentation


class TestTrivialAugment(AugmentationContract):
    augmentation = TrivialAugment


class TestWeakAugmentation(AugmentationContract):
    augmentation = WeakAugmentation


def test_every_augmentation_has_a_contract() -> None:
    tested = {v.augmentation for name, v in globals().items() if name.startswith("Test")}
    missing = [name for name, entry in AUGMENTATIONS.items() if entry not in tested]
    assert not missing, f"write a subclass of AugmentationContract here for {missing}"
