"""Where studies are kept: the places that users give."""

from pathlib import Path

import pytest

from study.storage.locations import Storage, check_copy, local_copies, open_storage, persisted
from study.storage.study_folder import NOTE, StudyFolder
from tests.support.stores import Bucket, study_in
from trainables.checkpointing.object_store import Store


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
