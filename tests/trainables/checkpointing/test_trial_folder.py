"""A trial's own files, and their copies in an object store."""

import threading
from pathlib import Path

import pytest

from tests.support.stores import Bucket
from trainables.checkpointing.object_store import Store, StoreError
from trainables.checkpointing.trial_folder import TrialFolder


def test_the_store_never_has_a_checkpoint_without_its_networks(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions that are replaced during an upload are left out, not mixed up."""
    uploaded: list[tuple[str, bytes]] = []
    proceed, began = threading.Event(), threading.Event()

    def upload(self: Store, name: str, file: object) -> None:
        began.set()
        assert proceed.wait(60)
        uploaded.append((name, file.read()))  # type: ignore[attr-defined]

    monkeypatch.setattr(Store, "upload", upload)
    files = TrialFolder(tmp_path, store)
    assert files.uploads is not None

    def save(path: Path, version: str) -> None:
        assert files.uploads is not None
        path.with_suffix(".new").write_text(version)
        path.with_suffix(".new").replace(path)
        files.uploads.push(path)

    save(files.best, "1")
    began.wait(60)
    save(files.latest, "1")
    save(files.best, "2")
    save(files.latest, "2")
    save(files.latest, "3")
    proceed.set()
    files.wait()
    assert uploaded == [("best.pt", b"1"), ("best.pt", b"2"), ("latest.pt", b"3")]
    files.close()


def test_a_trial_begins_with_what_is_in_the_store(store: Store, tmp_path: Path) -> None:
    first = TrialFolder(tmp_path / "one", store)
    first.save_latest({"step": 1})
    first.wait()
    first.close()
    second = TrialFolder(tmp_path / "two", store)
    second.path.mkdir()
    second.best.write_text("stale")
    second.begin()
    assert second.latest.read_bytes() == first.latest.read_bytes()
    assert not second.best.exists()
    second.close()


def test_what_one_machine_has_pretrained_another_one_downloads(
    store: Store, tmp_path: Path
) -> None:
    first, second = (TrialFolder(tmp_path / name, store) for name in ("one", "two"))
    assert not second.obtain()
    first.save_latest({"step": 1})
    first.save_best({"networks": 1})
    first.wait()
    first.finish()
    first.close()
    second.path.mkdir()
    second.best.write_text("unfinished")
    assert second.obtain()
    assert second.best.read_bytes() == first.best.read_bytes()
    assert set(store.files()) == {"best.pt", "done"}


@pytest.mark.usefixtures("impatient")
def test_a_trial_whose_files_are_not_taken_says_so(
    store: Store, tmp_path: Path, bucket: Bucket
) -> None:
    files = TrialFolder(tmp_path, store)
    bucket.broken = True
    files.save_latest({"step": 1})
    with pytest.raises(StoreError):
        files.wait()
    with pytest.raises(StoreError):
        files.save_latest({"step": 2})
    files.close()
