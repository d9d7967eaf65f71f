"""Background uploads of files to an object store while training continues."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from trainables.checkpointing.object_store import Store


class Uploads:
    """Uploads files in the background; a newer version of a file replaces one that waits.

    Uploads of a slow store would otherwise queue up behind training, each outdated by the next.

    Args:
        store: The folder that files are uploaded to.
        last: The name of the file that refers to the others. It is uploaded after those pushed
            before it, so that the store never has it without them.
    """

    def __init__(self, store: Store, last: str) -> None:
        self.store = store
        self.last = last
        self.lock = Lock()
        self.pending: dict[str, BinaryIO] = {}
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="uploads")
        self.uploading: list[Future[None]] = []

    def push(self, path: Path) -> None:
        """Upload a file with its present content.

        Raises:
            StoreError: An earlier file could not be uploaded.
        """
        # result() raises what an upload raised; those that succeeded are forgotten.
        self.uploading = [
            task for task in self.uploading if not task.done() or task.result() is not None
        ]
        with self.lock:
            superseded = self.pending.pop(path.name, None)
            # Opened now: it stays readable after another version has replaced it.
            self.pending[path.name] = path.open("rb")
        if superseded is not None:
            superseded.close()
        self.uploading.append(self.thread.submit(self._upload))

    def _upload(self) -> None:
        with self.lock:
            batch, self.pending = self.pending, {}
        try:
            for name in sorted(batch, key=lambda name: name == self.last):
                self.store.upload(name, batch[name])
        finally:
            for file in batch.values():
                file.close()

    def wait(self) -> None:
        """Wait until everything that was pushed is in the store.

        Raises:
            StoreError: A file could not be uploaded.
        """
        for task in self.uploading:
            task.result()

    def close(self) -> None:
        """Drop the uploads that have not begun, and wait for the one that has."""
        with self.lock:
            batch, self.pending = self.pending, {}
        for file in batch.values():
            file.close()
        self.thread.shutdown()
