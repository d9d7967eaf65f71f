"""What every task must keep to."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from tests.contracts.common import check_config, sent_to_another_process
from trainables.augmentations import evaluation_transform
from trainables.configuration.schema import validate
from trainables.tasks import (
    Domains,
    Images,
    LabelledImages,
    Task,
    TaskConfig,
    UnlabelledImages,
)

Content = tuple[tuple[int, ...], bytes]


class TaskContract:
    """Tests that every :class:`~trainables.tasks.Task` must pass.

    They read every image, so let the task open few and small ones.
    """

    task: ClassVar[type[Task]]
    """The task under test."""
    settings: ClassVar[Mapping[str, object]] = {}
    """Its settings, as YAML would give them."""

    def prepare(self, folder: Path) -> Mapping[str, object]:
        """Write the data that the task opens into an empty folder.

        Returns:
            Its settings: by default those of the attribute ``settings``.
        """
        return self.settings

    @pytest.fixture
    def given(self, tmp_path: Path) -> Mapping[str, object]:
        """Settings whose data are there."""
        folder = tmp_path / "data"
        folder.mkdir()
        return self.prepare(folder)

    @pytest.fixture
    def domains(self, given: Mapping[str, object], tmp_path: Path) -> Domains:
        """The task's data, opened."""
        return self._load(given, tmp_path / "cache")

    def test_settings_are_strict_documented_and_stored_without_loss(
        self, given: Mapping[str, object]
    ) -> None:
        check_config(self.task, TaskConfig, given)

    def test_labels_are_positions_of_classes(self, domains: Domains) -> None:
        classes = domains.classes
        assert isinstance(classes, tuple) and len(set(classes)) == len(classes) >= 2, (
            f"classes must be a tuple of at least two different names, got {classes}."
        )
        for name, images in _labelled(domains):
            assert len(images), f"{name} must hold images."
            assert images.labels.min() >= 0 and images.labels.max() < len(classes), (
                f"Labels of {name} must be in [0, {len(classes)}), got "
                f"{images.labels.unique().tolist()}."
            )
        absent = set(range(len(classes))) - set(domains.source_train.labels.tolist())
        assert not absent, (
            f"source_train must hold all classes, but lacks {[classes[i] for i in absent]}."
        )

    def test_images_are_uint8_in_colour_and_of_the_geometry(self, domains: Domains) -> None:
        transform = evaluation_transform(domains.geometry)
        size = domains.geometry.crop_size
        for name, images in _all(domains):
            for index in (0, len(images) - 1):
                image = images[index]
                assert image.dtype == torch.uint8 and image.dim() == 3 and len(image) == 3, (
                    f"Images of {name} must be uint8 of shape (3, H, W), got {image.dtype} "
                    f"{tuple(image.shape)}."
                )
                assert transform(image).shape == (3, size, size), (
                    f"geometry must fit the images of {name}."
                )
                assert torch.equal(images[index], image), (
                    f"An image of {name} must be equal each time that it is read."
                )
                assert images.name(index), f"Images of {name} must have names."

    def test_target_labels_are_out_of_reach_of_training(self, domains: Domains) -> None:
        if domains.target_train is None:
            pytest.skip("the task has no target")
        assert type(domains.target_train) is UnlabelledImages, (
            f"target_train must be UnlabelledImages, got {type(domains.target_train).__name__}."
        )
        seen: object = domains.target_train.images
        while seen is not None:
            assert isinstance(seen, Images) and not hasattr(seen, "labels"), (
                f"target_train must not keep labels, but its {type(seen).__name__} does."
            )
            seen = getattr(seen, "images", None)

    def test_domains_do_not_overlap(self, domains: Domains) -> None:
        contents = {name: _contents(images) for name, images in _all(domains)}
        source = ("source_train", "source_val")
        pairs = [source]
        pairs += [(one, other) for one in source for other in contents if other not in source]
        pairs += [("target_val", name) for name in domains.test_sets if "target_val" in contents]
        for one, other in pairs:
            shared = len(contents[one] & contents[other])
            assert not shared, f"{one} and {other} must not overlap, but share {shared} images."

    def test_loading_again_gives_the_same_images(
        self, domains: Domains, given: Mapping[str, object], tmp_path: Path
    ) -> None:
        for cache in ("cache", "other-cache"):
            again = self._load(given, tmp_path / cache)
            assert again.classes == domains.classes and again.geometry == domains.geometry
            expected, actual = dict(_all(domains)), dict(_all(again))
            assert actual.keys() == expected.keys()
            for name, images in expected.items():
                assert list(map(_content, _each(actual[name]))) == list(
                    map(_content, _each(images))
                ), f"{name} must hold the same images in the same order each time it is loaded."
            labels = dict(_labelled(again))
            for name, labelled in _labelled(domains):
                assert torch.equal(labels[name].labels, labelled.labels), (
                    f"Labels of {name} must be equal each time that it is loaded."
                )

    def test_images_can_be_sent_to_loader_processes(self, domains: Domains) -> None:
        for name, images in _all(domains):
            copy = sent_to_another_process(images, name)
            assert len(copy) == len(images) and torch.equal(copy[0], images[0]), (
                f"The pickled images of {name} must be those of the original."
            )

    def _load(self, settings: Mapping[str, object], cache: Path) -> Domains:
        cache.mkdir(exist_ok=True)
        domains = self.task.load(validate(self.task.Config, settings), cache)
        assert isinstance(domains, Domains), f"load must return Domains, got {type(domains)}."
        return domains


def _labelled(domains: Domains) -> Iterator[tuple[str, LabelledImages]]:
    yield "source_train", domains.source_train
    yield "source_val", domains.source_val
    if domains.target_val is not None:
        yield "target_val", domains.target_val
    yield from domains.test_sets.items()


def _all(domains: Domains) -> Iterator[tuple[str, Images]]:
    for name, labelled in _labelled(domains):
        yield name, labelled.images
    if domains.target_train is not None:
        yield "target_train", domains.target_train.images


def _each(images: Images) -> Iterator[Tensor]:
    return (images[index] for index in range(len(images)))


def _content(image: Tensor) -> Content:
    return tuple(image.shape), image.numpy().tobytes()


def _contents(images: Images) -> set[Content]:
    return {_content(image) for image in _each(images)}
