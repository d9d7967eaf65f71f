"""Studies in an object store: logs in parts, one driver at a time, and a trial's own files."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.storage import lease as leases
from study.storage.lease import Lease
from study.storage.locations import Storage, check_copy, local_copies, open_storage, persisted
from study.storage.remote_log import TAIL_BYTES, RemoteLog, read_parts
from study.storage.study_folder import NOTE, StudyFolder
from study.storage.sync import StorageError, StorageSync
from tests.support.stores import BUCKET, Bucket, running_bucket
from trainables.checkpointing import object_store as stores
from trainables.checkpointing.object_store import Store, StoreError
from trainables.checkpointing.trial_folder import TrialFolder


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with pytest.MonkeyPatch.context() as patch, running_bucket(patch) as bucket:
        yield bucket


@pytest.fixture
def store(bucket: Bucket, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A folder in the bucket for this test alone."""
    bucket.requests.clear()
    yield Store.open(f"s3://{BUCKET}/{request.node.name}")
    bucket.broken = False


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for hundredths of a second wherever seconds are meant."""
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(leases, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(stores, "PAUSES_SECONDS", (0.01,))


# Files


def test_files_are_written_read_listed_and_deleted(store: Store, tmp_path: Path) -> None:
    folder = store / "a b" / "c%2F"
    folder.write("one", b"1" * 10)
    folder.write("empty", b"")
    assert store.files() == {"a b/c%2F/one": 10, "a b/c%2F/empty": 0}
    assert (store.folders(), folder.name, folder.parent.uri) == (
        ["a b"],
        "c%2F",
        (store / "a b").uri,
    )
    assert Store.open(folder.uri).read("one") == b"1" * 10
    store.download_all(store.files(), tmp_path)
    assert (tmp_path / "a b" / "c%2F" / "one").read_bytes() == b"1" * 10
    assert (tmp_path / "a b" / "c%2F" / "empty").read_bytes() == b""
    folder.delete("one")
    folder.delete("one")
    assert not folder.exists("one") and folder.exists("empty")
    with pytest.raises(FileNotFoundError):
        folder.read("one")


def test_a_small_file_is_one_request(store: Store, bucket: Bucket) -> None:
    store.write("small", b"x")
    assert [method for method, _ in bucket.requests] == ["PUT"]


def test_a_download_replaces_what_was_there_or_removes_it(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("stale")
    store.write("file", b"new")
    assert store.download("file", path) and path.read_text() == "new"
    store.delete("file")
    assert not store.download("file", path) and list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("impatient")
def test_a_store_that_does_not_answer_is_an_error_in_one_line(
    store: Store, bucket: Bucket
) -> None:
    bucket.broken = True
    with pytest.raises(StoreError, match=r"^s3://\S+: file cannot be written \(.*\)\.$"):
        store.write("file", b"x")


# Logs in parts


class GrowingLog:
    """A log that is stored after each addition."""

    def __init__(self, path: Path, store: Store) -> None:
        self.file = RemoteLog(path, store)

    def add(self, *lines: bytes) -> None:
        with self.file.path.open("ab") as file:
            file.writelines(lines)
        self.file.push()


@pytest.fixture
def growing(tmp_path: Path, store: Store) -> GrowingLog:
    return GrowingLog(tmp_path / "records.jsonl", store)


def test_additions_arrive_as_whole_lines(growing: GrowingLog) -> None:
    growing.add(b"one\ntw")
    assert read_parts(growing.file.store)[0] == b"one\n"
    growing.add(b"o\n")
    assert read_parts(growing.file.store)[0] == b"one\ntwo\n"


def test_nothing_added_is_no_request(growing: GrowingLog, bucket: Bucket) -> None:
    growing.add(b"one\n")
    before = len(bucket.requests)
    growing.add()
    assert len(bucket.requests) == before


def test_the_number_of_parts_grows_with_the_logarithm_of_the_size(
    growing: GrowingLog, bucket: Bucket
) -> None:
    line = b"x" * (TAIL_BYTES // 4 - 1) + b"\n"
    for _ in range(64):
        growing.add(line)
    sizes = [end - begin for begin, end in growing.file.parts]
    assert sum(sizes) == 64 * len(line)
    assert len(sizes) <= 6
    assert all(size >= 2 * after for size, after in zip(sizes, sizes[1:], strict=False))
    assert set(growing.file.store.files()) == {f"{begin:012d}" for begin, _ in growing.file.parts}
    assert read_parts(growing.file.store)[0] == growing.file.path.read_bytes()
    written = sum(
        method == "PUT" and path.endswith("?") and "/0" in path for method, path in bucket.requests
    )
    assert written == 64


def test_parts_that_were_merged_and_not_deleted_do_not_count(
    growing: GrowingLog, tmp_path: Path
) -> None:
    store = growing.file.store
    store.write("000000000000", b"a\nb\nc\n")
    store.write("000000000002", b"b\n")
    assert read_parts(store) == (b"a\nb\nc\n", [(0, 6)])
    again = GrowingLog(tmp_path / "again", store)
    again.file.pull()
    again.add(b"d\n")
    assert again.file.path.read_bytes() == read_parts(store)[0] == b"a\nb\nc\nd\n"
    assert set(store.files()) == {"000000000000"}


@pytest.mark.usefixtures("impatient")
def test_a_missing_part_is_an_error(store: Store) -> None:
    store.write("000000000004", b"b\n")
    with pytest.raises(ValueError, match="a part of this file is missing"):
        read_parts(store)


# One driver at a time


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


# A study's folder


def study_in(store: Store, out: Path) -> StudyFolder:
    study_folder = StudyFolder(out / store.name, store)
    study_folder.root.mkdir(parents=True)
    return study_folder


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


# A trial's own files


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


# User input


@pytest.mark.parametrize(
    "location, message",
    [
        ("s3://", "s3://: must be a folder of an object store, such as s3://bucket/prefix."),
        (
            "s4://bucket/x",
            "--storage s4://bucket/x: must be a folder that all nodes see, or that of "
            "an object store, such as s3://bucket/prefix.",
        ),
        (
            "s3://nosuch/x",
            r"s3://nosuch/x: cannot be written to and read (AWS Error NO_SUCH_BUCKET "
            "during PutObject operation: The specified bucket does not exist). The "
            "bucket has to exist, and the credentials have to allow reading, writing, "
            "listing and deleting.",
        ),
    ],
)
def test_unusable_locations(bucket: Bucket, location: str, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        open_storage(location, None)
    assert str(raised.value) == message


def test_a_folder_that_all_nodes_see_is_the_folder_of_studies(tmp_path: Path) -> None:
    assert open_storage(str(tmp_path), None) == Storage(tmp_path)
    with pytest.raises(ValueError, match="Give one of the two"):
        open_storage(str(tmp_path), tmp_path)


@pytest.mark.usefixtures("impatient")
def test_a_working_copy_is_not_taken_for_another_study(store: Store, tmp_path: Path) -> None:
    study_folder = study_in(store, tmp_path)
    with pytest.raises(ValueError, match="is not kept in s3://.* Choose another --out or --name"):
        check_copy(study_folder)
    with persisted(study_folder):
        pass
    check_copy(study_folder)
    with pytest.raises(ValueError, match="is a working copy of s3://.* Give --storage s3://"):
        check_copy(StudyFolder(study_folder.root))
    assert (study_folder.root / NOTE).exists()


def test_a_study_that_is_not_there_cannot_be_read(store: Store) -> None:
    with (
        pytest.raises(ValueError, match="^s3://.*: no study is kept here"),
        local_copies([store.uri]),
    ):
        pass
