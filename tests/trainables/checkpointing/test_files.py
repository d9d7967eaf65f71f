"""A file is written completely or not at all, whatever interrupts the writer."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainables.checkpointing.files import atomic_writer, write_atomically
from trainables.checkpointing.tensors import save_tensors
from trainables.data.array_cache import cached_array

OLD, NEW = b"old", b"new and longer"


class Killed(BaseException):
    """Not an Exception, as KeyboardInterrupt is none."""


def kill(*args: Any, **kwargs: Any) -> Any:
    raise Killed


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("before", [None, OLD])
@pytest.mark.parametrize("moment", ["open", "fsync", "replace"])
def test_a_writer_that_is_interrupted_leaves_the_old_file_and_no_other(
    moment: str, before: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    monkeypatch.setattr(os, moment, kill)
    with pytest.raises(Killed):
        write_atomically(path, NEW)
    assert names(tmp_path) == ([] if before is None else ["file"])
    assert before is None or path.read_bytes() == before


def test_a_writer_that_fails_after_half_of_the_content_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    with pytest.raises(Killed), atomic_writer(path) as file:
        file.write(NEW[:5])
        assert path.read_bytes() == OLD
        raise Killed
    assert names(tmp_path) == ["file"] and path.read_bytes() == OLD


def test_a_writer_that_is_interrupted_after_the_rename_leaves_the_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sync = tmp_path / "file", os.fsync
    path.write_bytes(OLD)

    def kill_at_the_folder(descriptor: int) -> None:
        if path.read_bytes() == NEW:
            raise Killed
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", kill_at_the_folder)
    with pytest.raises(Killed):
        write_atomically(path, NEW)
    assert names(tmp_path) == ["file"] and path.read_bytes() == NEW


def test_content_is_synced_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sync = tmp_path / "new" / "file", os.fsync
    synced: list[tuple[bool, bool]] = []

    def note(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").resolve().is_dir(), path.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_atomically(path, NEW)
    assert synced == [(False, False), (True, True)]
    assert path.read_bytes() == NEW


def test_a_file_system_that_does_not_sync_folders_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sync = tmp_path / "file", os.fsync

    def refuse_folders(descriptor: int) -> None:
        if path.exists():
            raise OSError(22, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    write_atomically(path, NEW)
    assert path.read_bytes() == NEW


def test_files_have_the_mode_of_any_other(tmp_path: Path) -> None:
    """Others read them on a shared disk; tempfile's would be private."""
    (tmp_path / "plain").write_bytes(NEW)
    write_atomically(tmp_path / "file", NEW)
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: save_tensors(folder / "file.pt", {"weight": torch.ones(3)}),
        lambda folder: cached_array(folder, "name", {}, lambda: np.ones(3)),
    ],
    ids=["tensors", "array"],
)
def test_other_writers_leave_no_half_of_a_file_either(
    write: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", kill)
    with pytest.raises(Killed):
        write(tmp_path)
    assert [name for name in names(tmp_path) if not name.endswith(".lock")] == []
