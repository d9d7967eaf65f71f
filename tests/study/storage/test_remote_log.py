"""Logs in parts in an object store."""

from pathlib import Path

import pytest

from study.storage.remote_log import TAIL_BYTES, RemoteLog, read_parts
from tests.support.stores import Bucket
from trainables.checkpointing.object_store import Store


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
