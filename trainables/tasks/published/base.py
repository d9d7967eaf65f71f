"""Published data sets: where their parts lie, and how they become the domains of a task."""

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
"""Environment variable with the data root of tasks whose settings name none."""

Numbers = NDArray[np.int64]


class PublishedConfig(TaskConfig):
    """Settings that all published data sets have."""

    root: PathText | None = None
    """Folder of the downloads, absolute on a cluster; null: the environment variable
    SYN2REAL_DATA."""
    aliases: dict[str, str] = {}
    """Class by the name of a folder that is called otherwise, besides those that are known."""
    image_size: PositiveInt = 224
    """Side in pixels of the square that the network sees."""
    num_source: PositiveInt | None = None
    """Images to train on, drawn evenly from the source (stratified, seeded); null: all but the
    hold-out."""


class AdaptationConfig(PublishedConfig):
    """Settings of those that have a target."""

    target_train: Literal["all", "val"] = "all"
    """Which unlabelled target images adaptation sees: all, or those of the val part alone. Their
    labels, names and places change no trained weight."""


@dataclass(frozen=True)
class Part:
    """One set of images of a download."""

    role: str
    """The setting or set that names it."""
    locate: Callable[[], Path]
    """Its tree ``<folder>/<class>/…/<image>``; raises ValueError if there is none."""
    classes: ClassList
    split: SplitFile | None = None
    """Names the images, relative to the tree; ``None``: all of them."""
    published: Mapping[str, int] = field(default_factory=dict)
    """Images of each class, as far as they are published."""
    published_total: int | None = None
    """Images of all classes."""


@dataclass(frozen=True)
class Layout:
    """The parts of a download that a task uses."""

    classes: tuple[str, ...]
    source: tuple[Part, ...]
    """Joined; the first one is named in messages."""
    target: tuple[Part, ...] = ()
    """None, or val and test as published, or one of which a share becomes the test part."""
    test_share: float = 0.5
    """Of a target in one part."""
    test_sets: Mapping[str, Part] = field(default_factory=dict)

    def parts(self) -> list[Part]:
        """All of them."""
        return [*self.source, *self.target, *self.test_sets.values()]


class PublishedTask(Task):
    """A task on published data: says what lies where, and the rest is common to all."""

    Config = PublishedConfig

    @staticmethod
    @abstractmethod
    def layout(config: TaskConfig) -> Layout:
        """What lies where.

        Raises:
            ValueError: There is no data root.
        """

    @classmethod
    @override
    def load(cls, config: TaskConfig, cache: Path) -> Domains:
        assert isinstance(config, PublishedConfig)
        layout = cls.layout(config)
        # All folders are compared with the classes before any image is read.
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
    """The folder of the downloads.

    Raises:
        ValueError: None is named, or it is no folder.
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
    """Inside, and in processes that are started there, tasks that name no root find data here.

    Args:
        folder: Goes before the environment variable, which ``None`` leaves, but for making an
            absolute path of a relative one: trials have current directories of their own.

    Raises:
        ValueError: It is no folder.
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
    """The data set's own folder: the root, or one of ``names`` in it; it holds ``inner``.

    If none does, the root: what is missing is reported there.
    """
    places = [root, *(root / name for name in names)]
    return next((place for place in places if (place / inner).is_dir()), root)


@dataclass(frozen=True)
class _Opened:
    """A part that is there."""

    role: str
    index: FileIndex
    labels: list[int]
    """By group of the index."""
    numbers: Numbers | None
    """Of its images in the index; ``None``: all that have a class."""

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
        """Numbers of its images."""
        if self.numbers is not None:
            return self.numbers
        return np.flatnonzero(self.index.spread(self.labels) != LEFT_OUT)

    def labelled(self, numbers: Numbers) -> LabelledImages:
        """Those of its images."""
        labels = self.index.spread(self.labels)[numbers]
        return LabelledImages(self.images(numbers), torch.from_numpy(labels))

    def images(self, numbers: Numbers) -> Images:
        """The same without labels."""
        return ImageSubset(IndexedImages([self.index]), torch.from_numpy(numbers))


def _split_source(
    parts: list[_Opened], config: PublishedConfig, cache: Path
) -> tuple[LabelledImages, LabelledImages]:
    """Training images and hold-out; which they are is kept on disk, mapped by all processes."""
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
    """Labelled images from an array of their numbers and labels, shape ``(2, N)``."""
    numbers, labels = torch.from_numpy(array)
    return LabelledImages(ImageSubset(images, numbers), labels)


def _draw(parts: list[_Opened], config: PublishedConfig) -> tuple[Numbers, Numbers]:
    """Numbers and labels of training images and of the hold-out, each of shape ``(2, N)``."""
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
    """``numbers`` in an order that no name, place or label decides: by digests of the content.

    Every image is read once for it, and checked; the order is kept on disk as long as the tree
    does not change.
    """
    which = hashlib.blake2b(np.sort(numbers).tobytes(), digest_size=12).hexdigest()

    def order() -> Numbers:
        log.info("Reading %d images of %s. It is done once.", len(numbers), part.index.root)
        ascending = np.sort(numbers)
        files = [Path(part.index.path(number)) for number in ascending.tolist()]
        digests = check_images(part.index.root, files, cache)
        return ascending[np.argsort(np.array(digests), kind="stable")]

    return cached_array(cache, "target-order", {"tree": part.index.id, "images": which}, order)


def _split_target(
    parts: list[_Opened], test_share: float, config: AdaptationConfig, cache: Path
) -> tuple[UnlabelledImages, LabelledImages, LabelledImages]:
    """Images to adapt on, val part and test part, each in the order of their content.

    Args:
        parts: Of one tree: val and test, or one of which the first images become the test part.
        test_share: Of the latter.
        config: The settings.
        cache: What :func:`_by_content` remembers.
    """
    whole, kept = parts[0], np.concatenate([part.kept() for part in parts])
    if len(np.unique(kept)) < len(kept):
        raise ValueError(
            f"splits: {parts[0].role} and {parts[1].role} must share no image. Fetch "
            f"the files anew from {PUBLISHED_AT}."
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
