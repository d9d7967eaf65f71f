"""The places where studies are kept: a folder that all nodes see, or an object store."""

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
"""The default folder of studies, ``--out``."""


@dataclass(frozen=True)
class Storage:
    """A place that holds a folder per study."""

    out: Path
    """The folder on this machine: the place itself, or the working copies of a store's studies."""
    store: Store | None = None

    def study_folder(self, name: str) -> StudyFolder:
        """Return the folder of a study, which may not exist yet."""
        return StudyFolder(self.out / name, self.store / name if self.store else None)

    def names(self) -> set[str]:
        """Return the names of the existing folders."""
        here = {path.name for path in self.out.iterdir()} if self.out.is_dir() else set()
        return here | set(self.store.folders()) if self.store else here


def open_storage(place: str | None, out: Path | None) -> Storage:
    """Return the place that ``--storage`` and ``--out`` name, without creating anything.

    Raises:
        ValueError: The two contradict each other, or the place cannot be used.
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
            "no meaning. Give one of the two."
        )
    return Storage(Path(place))


def check_copy(study_folder: StudyFolder) -> None:
    """Raise if using a study's folder would overwrite another study.

    Raises:
        ValueError: The folder is a working copy of another store's study, or is none although a
            working copy is expected.
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
def persisted(study_folder: StudyFolder) -> Iterator[Persistence]:
    """Hold the lease on a study, fetch it from its store, and sync it until the context ends.

    A study without a store is on the local disk, whose lock the caller holds.

    Raises:
        ValueError: The study is running already.
        StorageError: At the end, not everything is in the store.
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
    sync = StorageSync(study_folder, study_folder.store, lease)
    try:
        sync.fetch()
        yield sync
    finally:
        try:
            sync.close()
        except StorageError:  # the next driver finds that the heartbeats have ended
            lease.stop()
            raise
        lease.release()


@contextmanager
def local_copies(places: Sequence[str | Path]) -> Iterator[list[Path]]:
    """Yield local folders of studies for reading; studies in a store are downloaded.

    Raises:
        ValueError: A store holds no study, or cannot be read.
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
    """Download a study from a store, and note where it comes from."""
    fetch_study(StudyFolder(folder, store), store)
    write_atomically(folder / NOTE, json.dumps({"store": store.uri, "owner": None}).encode())
