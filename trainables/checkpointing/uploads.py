"""Files on their way into a store while training goes on."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from trainables.checkpointing.object_store import Store


class Uploads:
    """Uploads files in the background; of several versions of one, the latest wins.

    Args:
        store: Where to.
        last: The name of the file that counts on the others: it is uploaded after those that
            were there when it was pushed, so that the store never has it without them.
    """

    def __init__(self, store: Store, last: str) -> None:
        self.store = store
        self.last = last
        self.lock = Lock()
        self.pending: dict[str, BinaryIO] = {}
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="uploads")
        self.under_way: list[Future[None]] = []

    def push(self, path: Path) -> None:
        """Uploads a file as it is now, also if it is replaced meanwhile.

        Raises:
            StoreError: An earlier file could not be uploaded.
        """
        self.under_way = [
            task for task in self.under_way if not task.done() or task.result() is not None
        ]
        with self.lock:
            superseded = self.pending.pop(path.name, None)
            self.pending[path.name] = path.open("rb")
        if superseded is not None:
            superseded.close()
        self.under_way.append(self.thread.submit(self._upload))

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
        """Waits until all that was pushed is in the store.

        Raises:
            StoreError: It could not be uploaded.
        """
        for task in self.under_way:
            task.result()

    def close(self) -> None:
        """Gives up what has not begun, and waits for what has."""
        with self.lock:
            batch, self.pending = self.pending, {}
        for file in batch.values():
            file.close()
        self.thread.shutdown()
