"""Where studies are kept: in a folder that all nodes see, or in an object store."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from study.storage.lease import Lease
from study.storage.persistence import LocalDisk, Persistence
from study.storage.study_folder import NOTE, StudyFolder
from study.storage.sync import StorageError, StorageSync, fetch_study
from trainables.checkpointing.files import write_atomically
from trainables.checkpointing.object_store import Store, is_uri

OUT = Path("runs")
"""The folder of studies unless another one is named."""


@dataclass(frozen=True)
class Storage:
    """A place with a folder for each study."""

    out: Path
    """On this machine's disk: the place itself, or that of working copies of a store's."""
    store: Store | None = None

    def study_folder(self, name: str) -> StudyFolder:
        """A study's folder, there or not."""
        return StudyFolder(self.out / name, self.store / name if self.store else None)

    def names(self) -> set[str]:
        """Of the folders that are there."""
        here = {path.name for path in self.out.iterdir()} if self.out.is_dir() else set()
        return here | set(self.store.folders()) if self.store else here


def open_storage(place: str | None, out: Path | None) -> Storage:
    """What ``--storage`` and ``--out`` say.

    Raises:
        ValueError: They contradict each other, or the place cannot be used. Nothing was made.
    """
    if place is None:
        return Storage(out or OUT)
    if is_uri(place):
        store = Store.open(place)
        store.check()
        return Storage(out or OUT, store)
    if "://" in place:
        raise ValueError(
            f"--storage {place}: must be a folder that all nodes see, or that of an "
            "object store, such as s3://bucket/prefix."
        )
    if out is not None:
        raise ValueError(
            f"--storage {place}: a folder holds studies itself, so --out {out} has "
            "no meaning beside it. Give one of them."
        )
    return Storage(Path(place))


def check_copy(study_folder: StudyFolder) -> None:
    """Whether a study's folder is what it is taken for: a working copy, or none.

    Raises:
        ValueError: It is not.
    """
    if not study_folder.root.exists():
        return
    own = StudyFolder.at(study_folder.root).store
    if study_folder.store is None and own is not None:
        raise ValueError(
            f"{study_folder.root}: is a working copy of {own}. Give --storage "
            f"{own.parent}, or choose another --out or --name."
        )
    if study_folder.store is not None and (own is None or own.uri != study_folder.store.uri):
        raise ValueError(
            f"{study_folder.root}: holds a study that is not kept in {study_folder.store}, and "
            "its working copy would replace it. Choose another --out or --name."
        )


@contextmanager
def keeping(study_folder: StudyFolder) -> Iterator[Persistence]:
    """Holds a study in a store, fetches what is there, and keeps it up to date from then on.

    A study without a store needs none of it.

    Raises:
        ValueError: The study is running already.
        StorageError: At the end: not all of it is in the store.
    """
    if study_folder.store is None:
        yield LocalDisk()
        return
    note = study_folder.root / NOTE
    former = json.loads(note.read_text())["owner"] if note.exists() else None
    lease = Lease(study_folder.store, former)
    lease.acquire()
    write_atomically(
        note, json.dumps({"store": study_folder.store.uri, "owner": lease.owner}).encode()
    )
    mirror = StorageSync(study_folder, study_folder.store, lease)
    try:
        mirror.fetch()
        yield mirror
    finally:
        try:
            mirror.close()
        except StorageError:  # whoever resumes finds that the beats have ended
            lease.stop()
            raise
        lease.release()


@contextmanager
def local_copies(places: Sequence[str | Path]) -> Iterator[list[Path]]:
    """The folders of studies, for reading: those in a store are copied here for as long.

    Raises:
        ValueError: There is no study, or none can be fetched.
    """
    with ExitStack() as stack:
        folders = []
        for place in map(str, places):
            if is_uri(place):
                store = Store.open(place)
                folder = stack.enter_context(TemporaryDirectory(prefix="s2r-"))
                folders.append(Path(folder) / store.name)
                copy(store, folders[-1])
            else:
                folders.append(Path(place))
        yield folders


def copy(store: Store, folder: Path) -> None:
    """Copies a study from a store and notes where it comes from."""
    fetch_study(StudyFolder(folder, store), store)
    write_atomically(folder / NOTE, json.dumps({"store": store.uri, "owner": None}).encode())
