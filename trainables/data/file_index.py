"""Index on disk of image trees that are too large for every process to list."""

import hashlib
import json
import logging
import os
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TypedDict, final

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from trainables.checkpointing.files import publish, write_atomically
from trainables.data.image_files import EXTENSIONS, read_image
from trainables.data.images import Images

log = logging.getLogger(__name__)

_VERSION = 1
_ENDINGS = tuple(os.fsencode(extension) for extension in EXTENSIONS)
_RACE_NANOSECONDS = 2 * 10**9
"""A folder that changed this shortly before it was listed may change again within one tick of the
file system's clock (milliseconds on local disks, seconds on some others)."""
_UNKNOWN_TIME = -1
"""Recorded as the time of such a folder; as it matches none, the next process lists again."""


class _State(TypedDict):
    """Contents of the JSON file that describes the arrays."""

    version: int
    stem: str
    num_bytes: int
    groups: list[str]
    starts: list[int]
    folders: list[tuple[str, int]]
    """Path and modification time of each folder."""


class NoImages(ValueError):  # noqa: N818 - names the problem
    """Error for a tree without images."""

    def __init__(self, root: Path) -> None:
        super().__init__(f"folder {root} holds no images. Images end in {', '.join(EXTENSIONS)}.")


@dataclass(frozen=True)
class ListedFolder:
    """One folder of a tree."""

    path: bytes
    """Path relative to the root of the tree; empty for the root."""
    modified: int
    """Modification time before the folder was listed, in nanoseconds since 1970."""
    images: list[bytes]
    """Names of the images directly in the folder, sorted."""


@final
class FileIndex:
    """The images of a tree ``<root>/<group>/…/<image>``, numbered so that groups are contiguous.

    The index is mapped from disk: only the accessed parts are read, and processes share their
    memory. A pickled index contains only its location.

    Args:
        root: Root of the tree.
        stem: Path of the index's files without their suffixes.
        groups: Names of the folders directly below the root that contain images, sorted; the first
            is empty if there are images directly in the root.
        starts: Number of the first image of each group, then the number of all images.
    """

    def __init__(
        self, root: Path, stem: Path, groups: tuple[str, ...], starts: tuple[int, ...]
    ) -> None:
        self.root = root
        self.stem = stem
        self.groups = groups
        self.starts = starts
        # Plain arrays, because slicing numpy's class for mapped files is slow.
        self._ends = np.asarray(np.memmap(_ends_file(stem), np.int64, "r"))
        self._paths = np.asarray(np.memmap(_paths_file(stem), np.uint8, "r"))

    def __reduce__(self) -> tuple[type["FileIndex"], tuple[object, ...]]:
        return FileIndex, (self.root, self.stem, self.groups, self.starts)

    def __len__(self) -> int:
        return self.starts[-1]

    @property
    def id(self) -> str:
        """Identifier of the tree and of its present state."""
        return self.stem.name

    def path(self, number: int) -> str:
        """Return the path of an image relative to the root."""
        assert 0 <= number < len(self)
        start = int(self._ends[number - 1]) if number else 0
        return os.fsdecode(self._paths[start : int(self._ends[number])].tobytes())

    def group_sizes(self) -> dict[str, int]:
        """Return the number of images of each group."""
        return {
            name: end - start
            for name, start, end in zip(self.groups, self.starts, self.starts[1:], strict=False)
        }

    def spread(self, values: Sequence[int]) -> NDArray[np.int64]:
        """Repeat one value per group for each of the group's images, shape ``(N,)``."""
        return np.repeat(np.array(values, dtype=np.int64), np.diff(self.starts))

    def numbers(self, paths: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
        """Find images by their paths relative to the root.

        It holds all paths of the tree in memory, so it suits trees of some 100,000 images.

        Returns:
            Numbers of the images that exist, and paths of those that do not.
        """
        known = {self.path(number): number for number in range(len(self))}
        found = [known[path] for path in paths if path in known]
        return np.array(found, dtype=np.int64), [path for path in paths if path not in known]


@final
class IndexedImages(Images):
    """Concatenated images of several trees, read on access, in RGB.

    Args:
        indexes: Index of each tree.
    """

    def __init__(self, indexes: Sequence[FileIndex]) -> None:
        self.indexes = list(indexes)
        self.starts = [0, *accumulate(len(index) for index in indexes)]

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, index: int) -> Tensor:
        return read_image(self.name(index))

    def name(self, index: int) -> str:
        """Return the path of an image."""
        tree = bisect_right(self.starts, index) - 1
        listing = self.indexes[tree]
        return os.path.join(listing.root, listing.path(index - self.starts[tree]))


def open_index(
    root: Path, cache: Path, walk: Callable[[Path], Iterable[ListedFolder]] | None = None
) -> FileIndex:
    """Open the index of a tree, listing the tree first if it is new or has changed.

    Of several processes, one lists and the others wait. Changes are detected by the modification
    times of the tree's folders: images and folders that were added, removed, renamed or moved. A
    file overwritten in place is not detected, since the index holds names only.

    Args:
        root: Existing folder, the root of the tree.
        cache: Existing folder for index files. Files of earlier states may be deleted while no
            trial runs.
        walk: Function that lists a tree; ``None``: :func:`walk_images`.

    Raises:
        ValueError: The tree cannot be listed.
    """
    root = root.resolve()
    name = hashlib.blake2b(os.fsencode(root), digest_size=12).hexdigest()
    state = cache / f"file-index-{name}.json"
    index = _current(root, state)
    if index is None:
        with FileLock(f"{state}.lock"):
            index = _current(root, state)
            if index is None:
                log.info("Listing %s (once, and again after a folder has changed).", root)
                _build(root, (walk or walk_images)(root), state, time.time_ns())
                index = _opened(root, state, _read(state))
    return index


def _ends_file(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.ends")


def _paths_file(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.paths")


def _current(root: Path, state: Path) -> FileIndex | None:
    """Return the index on disk if it is complete and matches the tree's present state."""
    try:
        entries = _read(state)
        if entries["version"] != _VERSION or not all(
            os.stat(os.path.join(root, folder)).st_mtime_ns == modified
            for folder, modified in entries["folders"]
        ):
            return None
        index = _opened(root, state, entries)
        sizes = (len(index._ends), len(index._paths))
        return index if sizes == (len(index), entries["num_bytes"]) else None
    except (OSError, ValueError, KeyError):
        return None


def _read(state: Path) -> _State:
    entries: _State = json.loads(state.read_text())
    return entries


def _opened(root: Path, state: Path, entries: _State) -> FileIndex:
    return FileIndex(
        root, state.with_name(entries["stem"]), tuple(entries["groups"]), tuple(entries["starts"])
    )


def _build(root: Path, folders: Iterable[ListedFolder], state: Path, now: int) -> None:
    """Write an index; none of its files is visible before it is complete."""
    partial = state.with_suffix(f".{os.getpid()}.partial")
    listed: list[tuple[str, int]] = []
    counts: dict[str, int] = {}
    digest = hashlib.blake2b(digest_size=12)
    num_bytes = 0
    with _paths_file(partial).open("wb") as paths, _ends_file(partial).open("wb") as ends:
        for folder in folders:
            prefix = folder.path + b"/" if folder.path else b""
            names = [prefix + name for name in folder.images]
            lengths = np.fromiter(map(len, names), np.int64, len(names))
            blob = b"".join(names)
            paths.write(blob)
            ends.write((num_bytes + np.cumsum(lengths)).tobytes())
            digest.update(repr((folder.path, folder.modified, len(names))).encode())
            digest.update(lengths.tobytes() + blob)
            num_bytes += len(blob)
            if names:
                group = os.fsdecode(folder.path.split(b"/")[0])
                counts[group] = counts.get(group, 0) + len(names)
            settled = folder.modified < now - _RACE_NANOSECONDS
            listed.append(
                (os.fsdecode(folder.path), folder.modified if settled else _UNKNOWN_TIME)
            )
    if not counts:
        _paths_file(partial).unlink()
        _ends_file(partial).unlink()
        raise NoImages(root)
    stem = state.with_name(f"{state.stem}-{digest.hexdigest()}")
    publish(_paths_file(partial), _paths_file(stem))
    publish(_ends_file(partial), _ends_file(stem))
    entries: _State = {
        "version": _VERSION,
        "stem": stem.name,
        "num_bytes": num_bytes,
        "groups": list(counts),
        "starts": [0, *accumulate(counts.values())],
        "folders": listed,
    }
    write_atomically(state, json.dumps(entries).encode())


def walk_images(root: Path) -> Iterator[ListedFolder]:
    """List all images below ``root``, without hidden files and folders.

    A folder precedes its subfolders, which are sorted.

    Raises:
        ValueError: A link leads back to a folder that contains it.
    """
    yield from _walk(os.fsencode(root), b"", ())


def _walk(root: bytes, path: bytes, above: tuple[tuple[int, int], ...]) -> Iterator[ListedFolder]:
    place = os.path.join(root, path)
    status = os.stat(place)
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        raise ValueError(
            f"{os.fsdecode(place)} is a link to a folder that contains it. Remove it."
        )
    images, subfolders = [], []
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(b"."):
                continue
            if entry.name.lower().endswith(_ENDINGS) and not entry.is_dir():
                images.append(entry.name)
            elif entry.is_dir():
                subfolders.append(entry.name)
    yield ListedFolder(path, status.st_mtime_ns, sorted(images))
    for name in sorted(subfolders):
        yield from _walk(root, os.path.join(path, name), (*above, identity))
