"""Base class of tasks on published data: from the layout of a download to domains."""

import hashlib
import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache as once
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from typing_extensions import override

from trainables.configuration.paths import PathText, absolute_path
from trainables.data.array_cache import cached_array
from trainables.data.file_index import FileIndex, IndexedImages, NoImages, open_index
from trainables.data.image_files import (
    check_images,
    existing_folder,
    first_of,
    photograph_geometry,
)
from trainables.data.images import (
    Images,
    ImageSubset,
    LabelledImages,
    UnlabelledImages,
    stratified_split,
)
from trainables.data.splitting import split_or_complain
from trainables.runtime.randomness import generator
from trainables.tasks.base import TARGET_TEST, Domains, Task, TaskConfig
from trainables.tasks.published._class_list import LEFT_OUT, ClassList
from trainables.tasks.published._split_files import PUBLISHED_AT, SplitFile

log = logging.getLogger(__name__)

DATA_VARIABLE = "SYN2REAL_DATA"
"""Environment variable with the data root of tasks without the setting ``root``."""

Numbers = NDArray[np.int64]


class PublishedConfig(TaskConfig):
    """Settings common to all published data sets."""

    root: PathText | None = None
    """Folder of the downloads, absolute on a cluster; null: that in the environment variable
    SYN2REAL_DATA."""
    aliases: dict[str, str] = {}
    """Class for each folder that is not named like its class; published names are known."""
    image_size: PositiveInt = 224
    """Side in pixels of the square crop that the network sees; images are resized before it in the
    paper's proportion, 256 to 224."""
    num_source: PositiveInt | None = None
    """Number of source images to train on, the same share of every class (stratified, seeded);
    null: all but the hold-out."""


class AdaptationConfig(PublishedConfig):
    """Settings common to published data sets with a target."""

    target_train: Literal["all", "val"] = "all"
    """Unlabelled target images that adaptation sees: all, or only those of the val part. Their
    labels and paths have no influence on weights."""


@dataclass(frozen=True)
class Part:
    """One set of images of a download."""

    role: str
    """Setting or set that the images belong to, for messages."""
    locate: Callable[[], Path]
    """Return the tree ``<folder>/<class>/…/<image>``; raises ValueError if there is none."""
    classes: ClassList
    """Classes that the tree's folders must belong to."""
    split: SplitFile | None = None
    """List of the part's images, relative to the tree; ``None``: all images."""
    published: Mapping[str, int] = field(default_factory=dict)
    """Published number of images of each class, as far as there is one."""
    published_total: int | None = None
    """Published number of images of all classes."""


@dataclass(frozen=True)
class Layout:
    """The parts of a download that a task uses."""

    classes: tuple[str, ...]
    """Names of the classes, in the order of the labels."""
    source: tuple[Part, ...]
    """Parts that are joined; messages name the first."""
    target: tuple[Part, ...] = ()
    """No part, the published val and test, or one part of which a share becomes test."""
    test_share: float = 0.5
    """Share of a target in one part that becomes test."""
    test_sets: Mapping[str, Part] = field(default_factory=dict)
    """Further test sets, by name."""

    def parts(self) -> list[Part]:
        """Return all parts."""
        return [*self.source, *self.target, *self.test_sets.values()]


class PublishedTask(Task):
    """A task on published data, defined by the layout of the download."""

    Config = PublishedConfig

    @staticmethod
    @abstractmethod
    def layout(config: TaskConfig) -> Layout:
        """Return the parts of the download.

        Args:
            config: Settings of the task.

        Raises:
            ValueError: There is no data root, or a setting does not fit.
        """

    @classmethod
    @override
    def load(cls, config: TaskConfig, cache: Path) -> Domains:
        assert isinstance(config, PublishedConfig)
        layout = cls.layout(config)
        # Compare all folders with the classes first: reading images may take hours.
        source = [_Opened.open(part, cache) for part in layout.source]
        tests = {name: _Opened.open(part, cache) for name, part in layout.test_sets.items()}
        target = [_Opened.open(part, cache) for part in layout.target]
        train, val = _split_source(source, config, cache)
        test_sets = {name: part.labelled(part.kept()) for name, part in tests.items()}
        target_train, target_val = None, None
        if target:
            assert isinstance(config, AdaptationConfig)
            target_train, target_val, test_sets[TARGET_TEST] = _split_target(
                target, layout.test_share, config, cache
            )
        return Domains(
            classes=layout.classes,
            geometry=photograph_geometry(config.image_size),
            source_train=train,
            source_val=val,
            target_train=target_train,
            target_val=target_val,
            test_sets=test_sets,
        )


def data_root(config: PublishedConfig) -> Path:
    """Return the folder of the downloads.

    Raises:
        ValueError: No folder is named, or it does not exist.
    """
    root = config.root or os.environ.get(DATA_VARIABLE)
    if not root:
        raise ValueError(
            "root: must name the folder of the downloads. Give it in the task's "
            f"settings, by --data DIR, or in the environment variable "
            f"{DATA_VARIABLE}."
        )
    return existing_folder("root" if config.root else DATA_VARIABLE, root)


@contextmanager
def using_data_folder(folder: Path | None) -> Iterator[None]:
    """Set the data root for tasks without one, in this process and those it starts in the block.

    Args:
        folder: Data root; ``None``: that in the environment variable, made absolute, because
            trials run in other directories.

    Raises:
        ValueError: The folder does not exist.
    """
    before = os.environ.get(DATA_VARIABLE)
    if folder is None and not before:
        yield
        return
    os.environ[DATA_VARIABLE] = (
        str(existing_folder("--data", folder))
        if folder is not None
        else absolute_path(before or "", os.getcwd())
    )
    try:
        yield
    finally:
        if before is None:
            del os.environ[DATA_VARIABLE]
        else:
            os.environ[DATA_VARIABLE] = before


def folder_with(root: Path, inner: str, names: tuple[str, ...]) -> Path:
    """Return the data set's folder: the root, or one of ``names`` in it, that contains ``inner``.

    If there is none, return the root, whose error then says what is missing.
    """
    places = [root, *(root / name for name in names)]
    return next((place for place in places if (place / inner).is_dir()), root)


@dataclass(frozen=True)
class _Opened:
    """A part whose index is open."""

    role: str
    index: FileIndex
    labels: list[int]
    """Label of each group of the index."""
    numbers: Numbers | None
    """Numbers of the part's images in the index; ``None``: all with a class."""

    @staticmethod
    def open(part: Part, cache: Path) -> "_Opened":
        root = part.locate()
        try:
            index = open_index(root, cache)
        except NoImages as error:
            raise ValueError(f"{part.role}: {error}") from error
        labels = part.classes.labels(part.role, index.root, index.groups)
        if part.split is None:
            return _Opened(part.role, index, labels, None)
        numbers, missing = index.numbers(part.split.read(part.classes))
        if missing:
            raise ValueError(
                f"{part.role}: {index.root} must hold all images that {part.split.find()} lists; "
                f"{len(missing)} are missing:\n{first_of(missing)}"
            )
        return _Opened(part.role, index, labels, numbers)

    def kept(self) -> Numbers:
        """Return the numbers of the part's images."""
        if self.numbers is not None:
            return self.numbers
        return np.flatnonzero(self.index.spread(self.labels) != LEFT_OUT)

    def labelled(self, numbers: Numbers) -> LabelledImages:
        """Return images by number, with labels."""
        labels = self.index.spread(self.labels)[numbers]
        return LabelledImages(self.images(numbers), torch.from_numpy(labels))

    def images(self, numbers: Numbers) -> Images:
        """Return images by number, without labels."""
        return ImageSubset(IndexedImages([self.index]), torch.from_numpy(numbers))


def _split_source(
    parts: list[_Opened], config: PublishedConfig, cache: Path
) -> tuple[LabelledImages, LabelledImages]:
    """Return training images and hold-out, whose numbers all processes map from disk."""
    origin: dict[str, str | int] = {
        "version": 1,
        "seed": config.seed,
        "holdout": str(config.holdout),
        "num_source": config.num_source or 0,
        "trees": str([(part.index.id, part.labels) for part in parts]),
    }
    images = IndexedImages([part.index for part in parts])
    draw = once(lambda: _draw(parts, config))
    train = cached_array(cache, "source-train", origin, lambda: draw()[0])
    holdout = cached_array(cache, "source-holdout", origin, lambda: draw()[1])
    return _mapped(images, train), _mapped(images, holdout)


def _mapped(images: IndexedImages, array: Numbers) -> LabelledImages:
    """Return labelled images from their numbers and labels, shape ``(2, N)``."""
    numbers, labels = torch.from_numpy(array)
    return LabelledImages(ImageSubset(images, numbers), labels)


def _draw(parts: list[_Opened], config: PublishedConfig) -> tuple[Numbers, Numbers]:
    """Draw training images and hold-out; return numbers and labels, each ``(2, N)``."""
    place = str(parts[0].index.root)
    every = torch.from_numpy(np.concatenate([p.index.spread(p.labels) for p in parts]))
    kept = (every != LEFT_OUT).nonzero()[:, 0]
    train, val = split_or_complain(
        every[kept],
        config.holdout,
        generator(config.seed, "source", "holdout"),
        parts[0].role,
        place,
    )
    train, val = kept[train], kept[val]
    if config.num_source is not None:
        if config.num_source > len(train):
            raise ValueError(
                f"num_source: must be at most {len(train)}, the images of {place} "
                f"without the hold-out, got {config.num_source}."
            )
        if config.num_source < len(train):
            _, chosen = stratified_split(
                every[train],
                config.num_source / len(train),
                generator(config.seed, "source", "num_source"),
            )
            train = train[chosen]
    return torch.stack([train, every[train]]).numpy(), torch.stack([val, every[val]]).numpy()


def _by_content(part: _Opened, numbers: Numbers, cache: Path) -> Numbers:
    """Sort images by digests of their content, so that paths and labels do not matter.

    This reads and checks every image once; the order is cached on disk until the tree changes.
    """
    which = hashlib.blake2b(np.sort(numbers).tobytes(), digest_size=12).hexdigest()

    def order() -> Numbers:
        log.info("Reading %d images of %s (once).", len(numbers), part.index.root)
        ascending = np.sort(numbers)
        files = [Path(part.index.path(number)) for number in ascending.tolist()]
        digests = check_images(part.index.root, files, cache)
        return ascending[np.argsort(np.array(digests), kind="stable")]

    return cached_array(cache, "target-order", {"tree": part.index.id, "images": which}, order)


def _split_target(
    parts: list[_Opened], test_share: float, config: AdaptationConfig, cache: Path
) -> tuple[UnlabelledImages, LabelledImages, LabelledImages]:
    """Return training images, val part and test part, each in the order of content digests.

    Args:
        parts: Parts of one tree: val and test, or one whose first images become test.
        test_share: Share of a single part that becomes test.
        config: Settings of the task.
        cache: Folder for the order of the images.
    """
    whole, kept = parts[0], np.concatenate([part.kept() for part in parts])
    if len(np.unique(kept)) < len(kept):
        raise ValueError(
            f"splits: {parts[0].role} and {parts[1].role} must share no image. Fetch "
            f"the files again from {PUBLISHED_AT}."
        )
    order = _by_content(whole, kept, cache)
    if len(parts) == 2:
        val, test = (order[np.isin(order, part.kept())] for part in parts)
    else:
        num_test = round(test_share * len(order))
        test, val = order[:num_test], order[num_test:]
    if not len(test) or not len(val):
        raise ValueError(
            f"{whole.role}: {whole.index.root} must hold more images to be split in "
            f"two, got {len(order)}."
        )
    train = order if config.target_train == "all" else val
    return UnlabelledImages(whole.images(train)), whole.labelled(val), whole.labelled(test)
