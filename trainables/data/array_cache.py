"""Cache on disk for arrays that are expensive to compute."""

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
    """Return the array that ``make`` computes, from ``folder`` if it is cached there.

    Of several processes that need the same array, one computes it and the others wait.

    Args:
        folder: Existing folder of the cache.
        name: Prefix of the file name, for people who look into the folder.
        origin: Everything that the array depends on, the key of the cache.
        make: Function that computes the array; called only if it is not cached.

    Returns:
        The array, mapped from the file so that processes share its memory; writes change a copy.

    Raises:
        ValueError: The cached file is damaged.
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
