"""Pictures for TensorBoard: the images are those that training sees, the cells are the counts."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from study.reporting.images import NUM_IMAGES, batch_pictures, confusion_picture
from tests.support.spy_tasks import tiny
from trainables.augmentations import STATISTICS
from trainables.data.batch import Batch
from trainables.methods import METHODS
from trainables.training.trial import run_trial


def cells(grid: Tensor, side: int = 32) -> Tensor:
    """The images of a grid, at their own size: ``(N, 3, side, side)``."""
    factor, edge = 3, 2
    step = side * factor + edge
    rows = [
        grid[
            :,
            edge + step * r : edge + step * r + side * factor : factor,
            edge + step * c : edge + step * c + side * factor : factor,
        ]
        for r in range(2)
        for c in range(NUM_IMAGES // 2)
    ]
    return torch.stack(rows)


class Stop(Exception):  # noqa: N818 - no error
    """The first batch was seen."""


def first_batch(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Batch:
    seen = []

    def look(self: object, batch: Batch, progress: float) -> None:
        seen.append(batch)
        raise Stop

    monkeypatch.setattr(METHODS["dann"], "update", look)
    config = tiny(method="dann", augmentation="strong", target_augmentation="weak")
    with pytest.raises(Stop):
        next(iter(run_trial(config, tmp_path, cache)))
    return seen[0]


def as_uint8(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in STATISTICS["imagenet"])
    return ((images * std + mean) * 255).round().to(torch.uint8)


def test_pictures_are_of_the_images_that_training_begins_with(
    tmp_path: Path, digits_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = first_batch(tmp_path, digits_cache, monkeypatch)
    config = tiny(method="dann", augmentation="strong", target_augmentation="weak")
    pictures = batch_pictures([config], digits_cache)
    assert list(pictures) == [
        "source/evaluation",
        "source/strong",
        "target/evaluation",
        "target/weak",
    ]
    for name, images in (
        ("source/strong", batch.source_images),
        ("target/weak", batch.target_images),
    ):
        assert torch.equal(cells(pictures[name]), as_uint8(images[:NUM_IMAGES]))


def test_each_augmentation_of_a_space_has_a_picture(digits_cache: Path) -> None:
    configs = [
        tiny(augmentation="none"),
        tiny(augmentation="weak"),
        *(tiny(augmentation={"strong": {"hue": hue}}) for hue in (0.0, 0.1, 0.0)),
    ]
    pictures = batch_pictures(configs, digits_cache)
    assert [name for name in pictures if name.startswith("source/")] == [
        "source/evaluation",
        "source/none",
        "source/weak",
        "source/strong",
        "source/strong 2",
    ]
    assert not torch.equal(pictures["source/strong"], pictures["source/strong 2"])


def test_a_confusion_matrix_is_dark_where_the_counts_are() -> None:
    diagonal = confusion_picture(["a", "b"], [[9, 1], [0, 5]], "title")
    everything_is_b = confusion_picture(["a", "b"], [[1, 9], [0, 5]], "title")
    assert diagonal.shape == everything_is_b.shape and diagonal.dtype == "uint8"
    height, width, _ = diagonal.shape
    upper_left = slice(height // 4, height // 4 + 20), slice(width // 6, width // 6 + 20)
    assert diagonal[upper_left].mean() < 150 < everything_is_b[upper_left].mean()


def test_many_classes_fit() -> None:
    names = [f"class {i}" for i in range(49)]
    picture = confusion_picture(names, torch.eye(49, dtype=torch.int64).tolist(), "title")
    assert 700 < picture.shape[0] < 1500 and 700 < picture.shape[1] < 1500
