"""What every augmentation must keep to."""

import random
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from tests.contracts.common import check_config, sent_to_another_process
from trainables.augmentations import Augmentation, AugmentationConfig, Geometry
from trainables.configuration.schema import validate
from trainables.runtime.randomness import generator, seed_everything

GEOMETRY = Geometry(crop_size=24, resize_size=28)
NUM_DRAWS = 10


class AugmentationContract:
    """Tests that every :class:`~trainables.augmentations.Augmentation` must pass.

    They augment smooth pictures, and crop them to 24 × 24 pixels.
    """

    augmentation: ClassVar[type[Augmentation]]
    """The augmentation under test."""
    settings: ClassVar[Mapping[str, object]] = {}
    """Its settings, as YAML would give them."""
    is_random: ClassVar[bool] = True
    """Whether it draws anything."""

    def test_settings_are_strict_documented_and_stored_without_loss(self) -> None:
        check_config(self.augmentation, AugmentationConfig, self.settings)

    def test_images_stay_images_of_the_crops_size(self) -> None:
        for seed in range(NUM_DRAWS):
            images = self._augment(torch.stack([picture(30, 40)] * 2), seed)
            _check(images, (2, 3, 24, 24))
            assert torch.equal(images[0], images[1]), (
                "All images of a call must share one draw (images_per_draw says how many)."
            )

    @pytest.mark.parametrize("height, width", [(24, 24), (10, 13), (31, 17), (90, 25)])
    def test_images_of_any_size_are_taken(self, height: int, width: int) -> None:
        for seed in range(NUM_DRAWS):
            _check(self._augment(picture(height, width), seed), (3, 24, 24))

    @pytest.mark.parametrize(
        "geometry",
        [
            Geometry(crop_size=24, resize_size=24, padding=4, mirror=False),
            Geometry(crop_size=9, resize_size=31),
        ],
        ids=["padded", "large"],
    )
    def test_the_task_decides_the_sizes(self, geometry: Geometry) -> None:
        size = geometry.crop_size
        for seed in range(NUM_DRAWS):
            _check(self._augment(picture(30, 40), seed, geometry), (3, size, size))

    def test_draws_come_from_torchs_generator_alone(self) -> None:
        for seed in range(NUM_DRAWS):
            first = self._augment(picture(30, 40), seed)
            random.random()
            np.random.random()
            assert torch.equal(self._augment(picture(30, 40), seed), first), (
                "An augmentation must draw from torch's global generator alone: its state is "
                "what makes a resumed trial equal."
            )
        different = {
            self._augment(picture(30, 40), seed).numpy().tobytes() for seed in range(NUM_DRAWS)
        }
        assert (len(different) > 1) == self.is_random, (
            f"{NUM_DRAWS} draws gave {len(different)} different images, although is_random = "
            f"{self.is_random}."
        )

    def test_the_input_stays_unchanged(self) -> None:
        for seed in range(NUM_DRAWS):
            image = picture(24, 24)
            self._augment(image, seed, Geometry(crop_size=24, resize_size=24))
            assert torch.equal(image, picture(24, 24)), (
                "An augmentation must not change its input in place: images may be cached."
            )

    def test_the_transform_can_be_sent_to_loader_processes(self) -> None:
        transform = self._build(GEOMETRY)
        seed_everything(0, "augmentation")
        expected = transform(picture(30, 40))
        copy = sent_to_another_process(transform, "The transform")
        seed_everything(0, "augmentation")
        assert torch.equal(copy(picture(30, 40)), expected), (
            "A pickled transform must do what the original does."
        )

    def _build(self, geometry: Geometry) -> nn.Module:
        return self.augmentation.build(validate(self.augmentation.Config, self.settings), geometry)

    def _augment(self, images: Tensor, seed: int, geometry: Geometry = GEOMETRY) -> Tensor:
        transform = self._build(geometry)
        seed_everything(seed, "augmentation")
        result: Tensor = transform(images)
        return result


def picture(height: int, width: int) -> Tensor:
    """Draw a smooth picture in colour: neighbours are alike, mirror images are not.

    Returns:
        uint8, shape ``(3, H, W)``.
    """
    coarse = torch.rand(3, 4, 4, generator=generator(0, "picture"))
    fine = v2.functional.resize(coarse, [height, width], antialias=True)
    return (fine * 255).round().to(torch.uint8)


def _check(images: Tensor, shape: tuple[int, ...]) -> None:
    assert images.dtype == torch.uint8, f"Images must stay uint8, got {images.dtype}."
    assert images.shape == shape, (
        f"Images must have the shape {shape} that the task's crop_size asks for, got "
        f"{tuple(images.shape)}."
    )
