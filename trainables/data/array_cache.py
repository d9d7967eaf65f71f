"""Arrays that are costly to make, made once and kept on disk."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from trainables.checkpointing.files import atomic_writer

ItemT = TypeVar("ItemT", bound=np.generic)


def cached_array(
    folder: Path, name: str, origin: Mapping[str, str | int], make: Callable[[], NDArray[ItemT]]
) -> NDArray[ItemT]:
    """The array that ``make`` returns, read from ``folder`` where it has been made before.

    Processes that ask for the same array at once make it once: the others wait.

    Args:
        folder: An existing folder.
        name: Start of the file's name, for whoever looks into the folder.
        origin: Everything that the array depends on; another origin is another array.
        make: Called only if the array is not there.

    Returns:
        Mapped from the file, so that processes share its memory; writing to it changes a copy.

    Raises:
        ValueError: The file is damaged.
    """
    text = json.dumps(origin, sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
    path = folder / f"{name}-{digest}.npy"
    if not path.exists():
        with FileLock(f"{path}.lock"):
            if not path.exists():
                _write(path, make())
    try:
        array: NDArray[ItemT] = np.load(path, mmap_mode="c", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{path}: must be an array in numpy's format ({error}). "
            "Delete it: it will be made again."
        ) from error
    return array


def _write(path: Path, array: NDArray[ItemT]) -> None:
    with atomic_writer(path) as file:
        np.save(file, array, allow_pickle=False)
