"""Sync of a study's folder with its copy in an object store, which is authoritative.

Own code: tools that sync folders give neither of the two guarantees here, that records and journal
are in the store before a trial counts as finished or begun, and that a driver that loses its lease
stops writing. They would also upload a whole log for each new line.
"""

import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from typing_extensions import override

from study.storage.lease import Lease
from study.storage.persistence import Persistence
from study.storage.remote_log import RemoteLog, read_parts
from study.storage.study_folder import StudyFolder
from trainables.checkpointing.files import write_atomically
from trainables.checkpointing.object_store import Store, StoreError

PARTS = ".parts"
"""Suffix of the folder of parts in a store, after the file's name."""

MIN_INTERVAL_SECONDS = 5.0
"""Minimum seconds between two syncs."""

MAX_CPU_SHARE = 0.05
"""Maximum share of one core spent on syncing."""


class StorageError(BaseException):
    """Results can no longer be stored, so the study ends; it can be resumed.

    It is no ``Exception``, because it is raised within callbacks of Ray Tune, which treats any
    ``Exception`` there as the failure of one trial and continues with the others.
    """


class StorageSync(Persistence):
    """Copies a study's folder to a store while the study runs.

    Args:
        study_folder: The local folder.
        store: The folder in the store.
        lease: The lease on the study, held by this process.
    """

    def __init__(self, study_folder: StudyFolder, store: Store, lease: Lease) -> None:
        self.study_folder = study_folder
        self.store = store
        self.lease = lease
        self.appended = {
            path: RemoteLog(path, parts_of(store, path)) for path in study_folder.appended_files
        }
        self.known: dict[Path, tuple[int, int]] = {}
        """Size in bytes and modification time in ns of the other files at their last upload."""
        self.discarded: list[Path] = []
        """Files that are still to be deleted in the store."""
        self.failure: str | None = None
        """The reason why nothing can be stored any more; ``None`` while it can."""
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._sync_repeatedly, name="sync", daemon=True)

    # Before the study

    def fetch(self) -> None:
        """Replace the working copy by the store's."""
        shutil.rmtree(self.study_folder.tensorboard, ignore_errors=True)
        events = self.study_folder.tensorboard.name
        self.store.download_all(self.store.files(events), self.study_folder.root)
        for path in self.study_folder.replaced_files:
            self.store.download(path.name, path)
        for file in self.appended.values():
            file.pull()
        self.known = dict(self._stamps())

    @override
    def begin(self) -> None:
        self.sync()
        self.thread.start()

    # While it runs

    @override
    def check(self) -> None:
        """Raise if results can no longer be stored.

        Raises:
            StorageError: The lease or the store is lost.
        """
        failure = self.failure or self.lease.failure
        if failure:
            raise StorageError(failure)

    @override
    def keep(self, path: Path) -> None:
        """Block until everything appended to a file is in the store.

        Raises:
            StorageError: The lease or the store is lost.
        """
        self.check()
        try:
            self.appended[path].push()
        except StoreError as error:
            self.failure = str(error)
            raise StorageError(self.failure) from error

    @override
    def discard(self, path: Path) -> None:
        """Delete a file here, and in the store at the next sync."""
        path.unlink(missing_ok=True)
        self.discarded.append(path)

    @override
    def sweep(self, paths: Iterable[Path]) -> None:
        stored = self.store.files("trials")
        self.discarded += [path for path in paths if self._name(path) in stored]

    def close(self) -> None:
        """Sync a last time and stop.

        Raises:
            StorageError: Not everything is in the store.
        """
        if self.thread.ident is None:  # the study did not begin, and leaves nothing in the store
            return
        self.stopping.set()
        self.thread.join()
        # A driver that lost its lease must not overwrite what its successor stores.
        if self.failure is None and self.lease.failure is None:
            self._try_sync()
        self.check()

    # In the background

    def _sync_repeatedly(self) -> None:
        pause = MIN_INTERVAL_SECONDS
        while self.failure is None and not self.stopping.wait(pause):
            began = time.thread_time()
            self._try_sync()
            # The files to check grow in number with the trials, and the interval grows with them.
            pause = max(MIN_INTERVAL_SECONDS, (time.thread_time() - began) / MAX_CPU_SHARE)

    def _try_sync(self) -> None:
        try:
            self.sync()
        except OSError as error:  # from the store, or from this machine's disk
            self.failure = str(error)

    def sync(self) -> None:
        """Upload what has changed.

        Raises:
            StoreError: The store cannot be written to.
        """
        for file in self.appended.values():
            file.push()
        # An empty file marks a run whose TensorBoard events are complete. Empty files go last, so
        # that the store never holds the mark without the events.
        changed = [
            (path, stamp) for path, stamp in self._stamps() if self.known.get(path) != stamp
        ]
        for path, stamp in sorted(changed, key=lambda item: item[1][0] == 0):
            with path.open("rb") as content:
                self.store.upload(self._name(path), content)
            self.known[path] = stamp
        while self.discarded:
            self.store.delete(self._name(self.discarded.pop()))

    def _stamps(self) -> Iterator[tuple[Path, tuple[int, int]]]:
        """Yield the files that are uploaded as a whole, with size and modification time."""
        for path in (*self.study_folder.replaced_files, *self.study_folder.tensorboard.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                found = path.stat()
                yield path, (found.st_size, found.st_mtime_ns)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.study_folder.root).as_posix()


def parts_of(store: Store, path: Path) -> Store:
    """Return the folder of a store that holds the parts of a growing file."""
    return store / f"{path.name}{PARTS}"


def fetch_study(study_folder: StudyFolder, store: Store) -> None:
    """Download a study for reading: configuration, records, journal, log and result.

    Raises:
        ValueError: The store holds no study.
    """
    if not store.download(study_folder.space.name, study_folder.space):
        raise ValueError(
            f"{store}: no study is kept here. Give a study's own folder, such as "
            "s3://bucket/prefix/digits."
        )
    for path in study_folder.replaced_files:
        store.download(path.name, path)
    for path in study_folder.appended_files:
        content, parts = read_parts(parts_of(store, path))
        if parts:
            write_atomically(path, content)
