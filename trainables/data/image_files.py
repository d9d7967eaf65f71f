"""Finding, checking and reading of image files."""

import hashlib
import io
import json
import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor

from trainables.checkpointing.files import write_atomically
from trainables.data.geometry import Geometry
from trainables.data.images import Images

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Suffixes of image files, in upper or lower case."""
_MAX_NAMED = 5
"""Maximum number of files that a message names."""
_DAMAGES = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
"""Exceptions that Pillow raises for unreadable files, depending on the format."""
_MEASUREMENT_MODES = ("I", "F")
"""Prefixes of Pillow's modes with values above 255, as in depth maps and raw scans."""


def photograph_geometry(image_size: int, *, mirror: bool = True) -> Geometry:
    """Return sizes in the paper's proportion: resized to 256, cropped to 224.

    Args:
        image_size: Side, in pixels, of the square crop that the network sees.
        mirror: Whether a mirrored image keeps its class.
    """
    return Geometry(crop_size=image_size, resize_size=round(image_size * 256 / 224), mirror=mirror)


@final
class FileImages(Images):
    """Images that are read from files on access, in RGB.

    Args:
        paths: File of each image.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = [str(path) for path in paths]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return read_image(self.paths[index])

    def name(self, index: int) -> str:
        """Return the path of an image."""
        return self.paths[index]


def read_image(path: str) -> Tensor:
    """Read one image in RGB, uint8, shape ``(3, H, W)``.

    Raises:
        ValueError: The image cannot be read; the message names it.
    """
    try:
        with Image.open(path) as image:
            return _to_tensor(image)
    except _DAMAGES as error:
        raise ValueError(_damage(path, error)) from error


def _to_tensor(image: Image.Image) -> Tensor:
    """Convert an image to RGB, uint8, shape ``(3, H, W)``."""
    if image.mode.startswith(_MEASUREMENT_MODES):
        raise ValueError(f"must have 8 bits a channel, got Pillow's mode '{image.mode}'")
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def _damage(path: str | Path, error: Exception) -> str:
    return f"{path}: cannot be read as an image: {error}. Replace or remove the file."


def existing_folder(role: str, path: str | Path) -> Path:
    """Return the folder that a setting names, as an absolute path.

    Args:
        role: Name of the setting, for the message.
        path: Path of the folder; it may start with ``~``.

    Raises:
        ValueError: There is no such folder.
    """
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        raise ValueError(
            f"{role}: must be a folder, got {folder}, which "
            f"{'is a file' if folder.exists() else 'does not exist'}."
        )
    return folder


def find_images(root: Path) -> list[Path]:
    """Return the sorted paths, relative to ``root``, of all images below it but hidden ones."""
    found = []
    for folder, subfolders, files in os.walk(root, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        relative = Path(folder).relative_to(root)
        found += [
            relative / name
            for name in files
            if not name.startswith(".") and name.lower().endswith(EXTENSIONS)
        ]
    return sorted(found)


@dataclass(frozen=True)
class _Seen:
    """A file that was decoded without error, and the data that identify its state."""

    size: int
    """Size in bytes."""
    modified: int
    """Modification time in nanoseconds since 1970."""
    digest: str
    """Digest of the content."""


def check_images(root: Path, files: Sequence[Path], cache: Path) -> list[str]:
    """Decode every image that is new or has changed since an earlier check.

    It finds damaged images before training, which would otherwise fail hours later.

    Args:
        root: Folder of the images.
        files: Paths of the images relative to the folder.
        cache: Existing folder in which results of earlier checks are kept.

    Returns:
        A digest of each file's content.

    Raises:
        ValueError: Images cannot be read; the message names the first ones.
    """
    name = hashlib.blake2b(str(root).encode(), digest_size=12).hexdigest()
    memory = cache / f"checked-images-{name}.json"
    with FileLock(f"{memory}.lock"):
        seen = _recall(memory)
        stale = [file for file in files if not _is_current(root / file, seen.get(str(file)))]
        damages = []
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for file, result in zip(
                stale, pool.map(_inspect, (root / f for f in stale)), strict=True
            ):
                if isinstance(result, str):
                    damages.append(result)
                else:
                    seen[str(file)] = result
        if stale:
            _remember(memory, seen)
    if damages:
        raise ValueError(first_of(damages))
    return [seen[str(file)].digest for file in files]


def first_of(lines: Sequence[str]) -> str:
    """Return the first lines of a list and the number of further ones."""
    more = [f"… and {len(lines) - _MAX_NAMED} more."] if len(lines) > _MAX_NAMED else []
    return "\n".join([*lines[:_MAX_NAMED], *more])


def _is_current(path: Path, seen: _Seen | None) -> bool:
    if seen is None:
        return False
    status = path.stat()
    return (status.st_size, status.st_mtime_ns) == (seen.size, seen.modified)


def _inspect(path: Path) -> _Seen | str:
    """Read and decode a file; return the error message if that fails."""
    try:
        status = path.stat()
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            image.draft("RGB", (1, 1))  # JPEG: read the whole file but decode few pixels
            _to_tensor(image)
    except _DAMAGES as error:
        return _damage(path, error)
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    return _Seen(status.st_size, status.st_mtime_ns, digest)


def damage_of(path: Path) -> str | None:
    """Return the error message for an unreadable image, or ``None``."""
    result = _inspect(path)
    return result if isinstance(result, str) else None


def _recall(memory: Path) -> dict[str, _Seen]:
    if not memory.exists():
        return {}
    return {file: _Seen(*entry) for file, entry in json.loads(memory.read_text()).items()}


def _remember(memory: Path, seen: dict[str, _Seen]) -> None:
    entries = {file: (entry.size, entry.modified, entry.digest) for file, entry in seen.items()}
    write_atomically(memory, json.dumps(entries).encode())
