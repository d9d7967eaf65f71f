"""A study's folder on this machine, and its copy in a store, which is the one that counts."""

import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from study.storage.lease import Lease
from study.storage.remote_log import RemoteLog, read_parts
from study.storage.study_folder import StudyFolder
from trainables.checkpointing.files import write_atomically
from trainables.checkpointing.object_store import Store, StoreError

PARTS = ".parts"
"""What a store's folder of parts has after the file's name."""

INTERVAL_SECONDS = 5.0
"""Between two looks at what has changed, at least."""

SHARE = 0.05
"""Of a processor's time that these looks take, at most."""


class StorageError(BaseException):
    """What a study finds can no longer be stored, so it ends; it can be resumed.

    Not an ``Exception``: Tune would take that for the failure of one trial, and go on.
    """


class StorageSync:
    """Copies a study's folder into a store while the study goes on.

    Args:
        study_folder: Its folder, and the one in the store.
        store: The latter.
        lease: Held by this process.
    """

    def __init__(self, study_folder: StudyFolder, store: Store, lease: Lease) -> None:
        self.study_folder = study_folder
        self.store = store
        self.lease = lease
        self.appended = {
            path: RemoteLog(path, parts_of(store, path)) for path in study_folder.growing
        }
        self.known: dict[Path, tuple[int, int]] = {}
        """Size and time of change of the other files as they are in the store."""
        self.discarded: list[Path] = []
        """Files that are still to be deleted there."""
        self.trouble: str | None = None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._work, name="mirror", daemon=True)

    # Before the study

    def fetch(self) -> None:
        """Replaces the working copy by what is in the store."""
        shutil.rmtree(self.study_folder.tensorboard, ignore_errors=True)
        events = self.study_folder.tensorboard.name
        self.store.download_all(self.store.files(events), self.study_folder.root)
        for path in self.study_folder.whole:
            self.store.download(path.name, path)
        for file in self.appended.values():
            file.pull()
        self.known = dict(self._stamps())

    def begin(self) -> None:
        """Copies from now on."""
        self.sync()
        self.thread.start()

    # While it runs

    def check(self) -> None:
        """Whether the study may go on.

        Raises:
            StorageError: It may not.
        """
        trouble = self.trouble or self.lease.trouble
        if trouble:
            raise StorageError(trouble)

    def keep(self, path: Path) -> None:
        """Returns when all that was appended to a file is in the store.

        Raises:
            StorageError: That is not possible.
        """
        self.check()
        try:
            self.appended[path].push()
        except StoreError as error:
            self.trouble = str(error)
            raise StorageError(self.trouble) from error

    def discard(self, path: Path) -> None:
        """Deletes a file, in the store some seconds later."""
        path.unlink(missing_ok=True)
        self.discarded.append(path)

    def sweep(self, paths: Iterable[Path]) -> None:
        """Deletes those of the files that are there after all: uploads that came late."""
        there = self.store.files("trials")
        self.discarded += [path for path in paths if self._name(path) in there]

    def close(self) -> None:
        """Copies what is left.

        Raises:
            StorageError: That is not possible.
        """
        if self.thread.ident is None:
            return
        self.over.set()
        self.thread.join()
        if self.trouble is None and self.lease.trouble is None:
            self._try_sync()
        self.check()

    # In the background

    def _work(self) -> None:
        pause = INTERVAL_SECONDS
        while self.trouble is None and not self.over.wait(pause):
            began = time.thread_time()
            self._try_sync()
            pause = max(INTERVAL_SECONDS, (time.thread_time() - began) / SHARE)

    def _try_sync(self) -> None:
        try:
            self.sync()
        except OSError as error:  # of the store, or of this machine's disk
            self.trouble = str(error)

    def sync(self) -> None:
        """Copies what has changed.

        Raises:
            StoreError: That is not possible.
        """
        for file in self.appended.values():
            file.push()
        # The marker of a trial whose events are whole is empty, and comes after them.
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
        """The files that are copied as a whole, their sizes and times of change."""
        for path in (*self.study_folder.whole, *self.study_folder.tensorboard.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                found = path.stat()
                yield path, (found.st_size, found.st_mtime_ns)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.study_folder.root).as_posix()


def parts_of(store: Store, path: Path) -> Store:
    """Where a study's store has the parts of a file that grows."""
    return store / f"{path.name}{PARTS}"


def fetch_study(study_folder: StudyFolder, store: Store) -> None:
    """Copies a study from a store, for reading: configuration, records and result.

    Raises:
        ValueError: There is none.
    """
    if not store.download(study_folder.space.name, study_folder.space):
        raise ValueError(
            f"{store}: no study is kept here. Give a study's own folder, such as "
            "s3://bucket/prefix/digits."
        )
    for path in study_folder.whole:
        store.download(path.name, path)
    for path in study_folder.growing:
        content, parts = read_parts(parts_of(store, path))
        if parts:
            write_atomically(path, content)
