"""A lease that lets one driver at a time run a study in an object store.

A file lock ends with its process; an object does not, so a crashed driver would lock its study for
ever. Therefore the driver writes heartbeats, and a second driver watches them for a while: if they
change, the study is running; if not, its driver is gone and the second one takes over. Clocks of
two machines are never compared, because they differ by more than a heartbeat.

Own code, because stores share no primitive for it: conditional writes, which libraries for locks
build on, are missing from some S3-compatible stores.
"""

import json
import threading
import time
from uuid import uuid4

from trainables.checkpointing.object_store import Store, StoreError

NAME = ".lease"
"""Name of the object that holds the heartbeat."""

HEARTBEAT_SECONDS = 5.0
"""Seconds between two heartbeats."""

MISSED_HEARTBEATS = 4
"""Number of missed heartbeats after which a driver counts as gone."""

SETTLE_SECONDS = 1.0
"""Seconds to wait after taking the lease, so that of two drivers that take it at the same moment
the one that wrote first sees that it was overwritten."""


class Lease:
    """The right to run a study, from :meth:`acquire` to :meth:`release`.

    Args:
        store: The study's folder.
        former: An owner known to be gone, which need not be watched: this machine's own, whose
            process has ended.
    """

    def __init__(self, store: Store, former: str | None = None) -> None:
        self.store = store
        self.owner = uuid4().hex
        self.former = former
        self.heartbeat = 0
        self.trouble: str | None = None
        """The reason why the lease is lost; ``None`` while it is held."""
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._send_heartbeats, name="lease", daemon=True)

    def acquire(self) -> None:
        """Take the lease and start sending heartbeats in the background.

        Raises:
            ValueError: Another driver holds it.
        """
        found = self._read()
        if found is not None and found["owner"] != self.former:
            self._watch(found)
        self._write()
        time.sleep(SETTLE_SECONDS)
        if self._owner() != self.owner:
            raise self._taken()
        self.thread.start()

    def _watch(self, found: dict[str, object]) -> None:
        """Return once the holder's heartbeats have stopped; raise if they have not."""
        for _ in range(MISSED_HEARTBEATS):
            time.sleep(HEARTBEAT_SECONDS)
            again = self._read()
            if again is None:
                return
            if again != found:
                raise self._taken()

    def _taken(self) -> ValueError:
        return ValueError(
            f"{self.store}: this study is running already, perhaps on another machine."
        )

    def stop(self) -> None:
        """Stop sending heartbeats, and leave the last one in the store."""
        self.over.set()
        if self.thread.is_alive():
            self.thread.join()

    def release(self) -> None:
        """Give the lease back."""
        self.stop()
        if self._owner() == self.owner:
            self.store.delete(NAME)

    def _send_heartbeats(self) -> None:
        while not self.over.wait(HEARTBEAT_SECONDS):
            try:
                if self._owner() != self.owner:
                    self.trouble = f"{self.store}: another driver has taken over this study."
                    return
                self.heartbeat += 1
                self._write()
            except StoreError as error:
                self.trouble = str(error)
                return

    def _write(self) -> None:
        self.store.write(NAME, json.dumps({"owner": self.owner, "beat": self.heartbeat}).encode())

    def _read(self) -> dict[str, object] | None:
        try:
            content: dict[str, object] = json.loads(self.store.read(NAME))
        except FileNotFoundError:
            return None
        return content

    def _owner(self) -> object:
        return (self._read() or {}).get("owner")
