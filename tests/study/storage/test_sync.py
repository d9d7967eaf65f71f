"""A study's folder and its copy in an object store."""

import threading
from pathlib import Path

import pytest

from study.storage import lease as leases
from study.storage.locations import persisted
from study.storage.study_folder import StudyFolder
from study.storage.sync import StorageError
from tests.support.stores import Bucket, study_in
from trainables.checkpointing.object_store import Store


@pytest.mark.usefixtures("impatient")
def test_a_lost_folder_comes_back(store: Store, tmp_path: Path, bucket: Bucket) -> None:
    study_folder = study_in(store, tmp_path / "first")
    with persisted(study_folder) as persistence:
        study_folder.space.write_text("task: digits\n")
        persistence.begin()
        study_folder.records.write_text("{}\n")
        persistence.keep(study_folder.records)
        assert bucket.content(f"{store.name}/records.jsonl.parts/{0:012d}") == b"{}\n"
        (study_folder.tensorboard / "0000").mkdir(parents=True)
        (study_folder.tensorboard / "0000" / "events.1").write_bytes(b"events")
        (study_folder.tensorboard / "0000" / "complete").touch()
        study_folder.log.write_text("a line\nhalf a li")
        store.write("trials/0000/latest.pt", b"state")
        persistence.discard(study_folder.trial("0000") / "latest.pt")
    assert not store.exists(leases.NAME)
    assert not store.exists("trials/0000/latest.pt")

    again = study_in(store, tmp_path / "second")
    again.result.write_text("stale")
    with persisted(again):
        assert again.space.read_text() == "task: digits\n"
        assert again.records.read_text() == "{}\n"
        assert again.log.read_text() == "a line\n"
        assert (again.tensorboard / "0000" / "events.1").read_bytes() == b"events"
        assert (again.tensorboard / "0000" / "complete").exists()
        assert not again.result.exists() and not again.journal.exists()
    assert StudyFolder.at(again.root) == again


@pytest.mark.usefixtures("impatient")
def test_a_study_that_did_not_begin_leaves_nothing(store: Store, tmp_path: Path) -> None:
    study_folder = study_in(store, tmp_path)
    with pytest.raises(ValueError, match="no data"), persisted(study_folder):
        study_folder.log.write_text("a line\n")
        raise ValueError("no data")
    assert store.files() == {}


@pytest.mark.usefixtures("impatient")
def test_a_record_that_cannot_be_kept_ends_the_study(
    store: Store, tmp_path: Path, bucket: Bucket
) -> None:
    study_folder = study_in(store, tmp_path)
    with (
        pytest.raises(StorageError, match="cannot be written"),
        persisted(study_folder) as persistence,
    ):
        persistence.begin()
        bucket.broken = True
        study_folder.records.write_text("{}\n")
        try:
            persistence.keep(study_folder.records)
        finally:
            bucket.broken = False
    assert not [thread for thread in threading.enumerate() if thread.name in ("lease", "sync")]


@pytest.mark.usefixtures("impatient")
def test_late_uploads_are_swept_up(store: Store, tmp_path: Path) -> None:
    study_folder = study_in(store, tmp_path)
    with persisted(study_folder) as persistence:
        persistence.begin()
        for name in ("0000/latest.pt", "0000/trial.yaml", "final/best.pt"):
            store.write(f"trials/{name}", b"x")
        persistence.sweep([study_folder.trial(i) / "latest.pt" for i in ("0000", "0001")])
    assert set((store / "trials").files()) == {"0000/trial.yaml", "final/best.pt"}
