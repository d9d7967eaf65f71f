"""A folder of an object store."""

from pathlib import Path

import pytest

from tests.support.stores import Bucket
from trainables.checkpointing.object_store import Store, StoreError


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
