"""One driver of a study at a time."""

import json
from pathlib import Path

import pytest

from study.storage import lease as leases
from study.storage.lease import Lease
from study.storage.study_folder import StudyFolder
from study.storage.sync import StorageError, StorageSync
from trainables.checkpointing.object_store import Store


@pytest.mark.usefixtures("impatient")
def test_a_study_that_runs_cannot_be_run_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Lease(store)
    first.acquire()
    with pytest.raises(ValueError, match="^s3://.*: this study is running already, perhaps on"):
        Lease(store).acquire()
    assert first.failure is None
    first.release()
    assert store.files() == {}
    second = Lease(store)
    second.acquire()
    second.release()


@pytest.mark.usefixtures("impatient")
def test_a_driver_that_is_gone_is_replaced_after_some_beats(store: Store) -> None:
    store.write(leases.NAME, json.dumps({"owner": "gone", "beat": 7}).encode())
    successor = Lease(store)
    successor.acquire()
    assert json.loads(store.read(leases.NAME))["owner"] == successor.owner
    successor.release()


def test_a_driver_that_is_known_to_be_gone_is_replaced_without_waiting(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(leases.NAME, json.dumps({"owner": "gone", "beat": 7}).encode())
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 1e6)
    successor = Lease(store, previous_owner="gone")
    successor.acquire()
    successor.release()
    assert store.files() == {}


@pytest.mark.usefixtures("impatient")
def test_a_driver_that_was_replaced_stops(store: Store, tmp_path: Path) -> None:
    lease = Lease(store)
    lease.acquire()
    sync = StorageSync(StudyFolder(tmp_path, store), store, lease)
    sync.check()
    store.write(leases.NAME, json.dumps({"owner": "another", "beat": 0}).encode())
    lease.thread.join()
    with pytest.raises(StorageError, match="another driver has taken over this study"):
        sync.keep(sync.study_folder.records)
    lease.release()
    assert store.exists(leases.NAME)
