"""Storage of studies: a folder that all nodes see, or an object store."""

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
    """A folder, or a folder of an object store, that holds a folder per study."""

    out: Path
    """The folder on this machine; with a store, the one that holds the working copies."""
    store: Store | None = None
    """The folder in an object store; ``None`` if studies are kept in ``out``."""

    def study_folder(self, name: str) -> StudyFolder:
        """Return the folder of a study, which may not exist yet."""
        return StudyFolder(self.out / name, self.store / name if self.store else None)

    def names(self) -> set[str]:
        """Return the names of the existing folders."""
        local = {path.name for path in self.out.iterdir()} if self.out.is_dir() else set()
        return local | set(self.store.folders()) if self.store else local


def open_storage(location: str | None, out: Path | None) -> Storage:
    """Return the storage that ``--storage`` and ``--out`` name, without creating anything.

    Args:
        location: A folder that all nodes see, or the URI of a folder in an object store.
        out: The folder of studies or, with a store, of working copies; ``None``: :data:`OUT`.

    Raises:
        ValueError: The two contradict each other, or the store cannot be used.
    """
    if location is None:
        return Storage(out or OUT)
    if is_uri(location):
        store = Store.open(location)
        store.check()
        return Storage(out or OUT, store)
    if "://" in location:
        raise ValueError(
            f"--storage {location}: must be a folder that all nodes see, or that of an "
            "object store, such as s3://bucket/prefix."
        )
    if out is not None:
        raise ValueError(
            f"--storage {location}: a folder needs no working copies, so that --out {out} has no "
            "meaning. Give one of the two."
        )
    return Storage(Path(location))


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

    Without a store, files last where they are written. The caller holds the folder's lock.

    Raises:
        ValueError: The study is running already.
        StorageError: At the end, not everything is in the store.
    """
    if study_folder.store is None:
        yield LocalDisk()
        return
    note = study_folder.root / NOTE
    # The last driver in this working copy is gone, because the caller holds the folder's lock: if
    # it crashed, the lease that it left need not be watched.
    previous_owner = json.loads(note.read_text())["owner"] if note.exists() else None
    lease = Lease(study_folder.store, previous_owner)
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
        except StorageError:
            # The store may not answer, so the lease stays there: the next driver finds that the
            # heartbeats have ended.
            lease.stop()
            raise
        lease.release()


@contextmanager
def local_copies(locations: Sequence[str | Path]) -> Iterator[list[Path]]:
    """Yield local folders of studies for reading; studies in a store are downloaded.

    Raises:
        ValueError: A folder of a store holds no study.
        StoreError: A store cannot be reached.
    """
    with ExitStack() as stack:
        folders = []
        for location in map(str, locations):
            if is_uri(location):
                store = Store.open(location)
                folder = stack.enter_context(TemporaryDirectory(prefix="s2r-"))
                folders.append(Path(folder) / store.name)
                _download(store, folders[-1])
            else:
                folders.append(Path(location))
        yield folders


def _download(store: Store, folder: Path) -> None:
    """Download a study from a store, and note where it comes from."""
    fetch_study(StudyFolder(folder, store), store)
    write_atomically(folder / NOTE, json.dumps({"store": store.uri, "owner": None}).encode())
