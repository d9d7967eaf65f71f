"""The one way to write a file: completely or not at all.

A process may be killed and a machine may lose power at any moment. What reads a file afterwards
finds its old or its new content, never a part of either.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces ``path`` at the end, or is removed after an exception.

    Args:
        path: The file to write; its folder is made if it does not exist.

    Yields:
        A binary file in the same folder. Until the end, ``path`` keeps its old content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the process's number: containers on a shared folder mostly have the same.
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            yield file
        publish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def publish(temporary: Path, path: Path) -> None:
    """Rename a completed file to ``path``, after its content is on the disk.

    Without the first sync, a file system may store the new name before the content; without the
    second, a name that was reported as written may be gone after a loss of power.
    """
    _sync(temporary)
    os.replace(temporary, path)
    with suppress(OSError):  # some network file systems do not sync folders
        _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Write or replace a file in one step."""
    with atomic_writer(path) as file:
        file.write(content)


def make_writable(folder: Path) -> None:
    """Make a folder if it does not exist, and try to write to it.

    Raises:
        ValueError: The folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"{folder}: cannot be written to ({error.strerror}).") from error
