"""Augmentations are as strong as their settings say."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from tests.contracts.augmentations import GEOMETRY, picture
from trainables.augmentations import AUGMENTATIONS, Geometry
from trainables.configuration.schema import validate
from trainables.runtime.randomness import seed_everything


def augment(
    name: str, images: Tensor, seed: int, geometry: Geometry = GEOMETRY, **settings: object
) -> Tensor:
    entry = AUGMENTATIONS[name]
    transform = entry.build(validate(entry.Config, settings), geometry)
    seed_everything(seed, "augmentation")
    result: Tensor = transform(images)
    return result


def effect(name: str, **settings: object) -> float:
    """How far operations take an image, on average, from the crop that they begin with."""
    crop = v2.RandomResizedCrop(24, scale=(0.5, 1), antialias=True)
    geometry = Geometry(crop_size=24, resize_size=24, mirror=False)
    total = 0.0
    for seed in range(60):
        seed_everything(seed, "augmentation")
        plain = crop(picture(30, 40))
        changed = augment(name, picture(30, 40), seed, geometry, min_scale=0.5, **settings)
        total += (changed.float() - plain.float()).abs().mean().item() / 60
    return total


def test_randaugment_grows_with_magnitude_and_operations() -> None:
    weak, medium, strong = (effect("randaugment", magnitude=m) for m in (1, 9, 30))
    assert weak < medium < strong
    assert effect("randaugment", num_operations=1) < effect("randaugment", num_operations=6)


def test_trivialaugment_grows_with_its_probability() -> None:
    assert effect("trivialaugment", probability=0.0) == 0
    assert 0 < effect("trivialaugment", probability=0.3) < effect("trivialaugment")


@pytest.mark.parametrize(
    "name, off",
    [
        ("weak", {}),
        (
            "strong",
            {
                "min_scale": 1.0,
                "jitter_probability": 0.0,
                "grayscale_probability": 0.0,
                "blur_probability": 0.0,
            },
        ),
        ("trivialaugment", {"min_scale": 1.0, "probability": 0.0}),
    ],
)
def test_mirror_images_only_where_the_task_allows_them(name: str, off: dict[str, object]) -> None:
    square = torch.arange(24).expand(3, 24, 24).to(torch.uint8) * 10

    def directions(mirror: bool) -> set[bool]:
        geometry = Geometry(crop_size=24, resize_size=24, mirror=mirror)
        results = [augment(name, square, seed, geometry, **off) for seed in range(30)]
        return {bool(image[0, 0, 0] < image[0, 0, -1]) for image in results}

    assert directions(mirror=False) == {True}
    assert directions(mirror=True) == {True, False}
