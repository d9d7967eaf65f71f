"""A lease that lets one driver at a time run a study in an object store.

A file lock ends with its process; an object does not, so a crashed driver would lock its study for
ever. Therefore the driver writes heartbeats, and a second driver watches them for a while: if they
change, the study is running; if not, its driver is gone and the second one takes over. Each driver
measures this time by its own clock: an expiry time in the object would be wrong whenever the
clocks of two machines differ.

Own code, because libraries for locks need a service of their own (etcd, ZooKeeper, a database) or
conditional writes, which pyarrow's interface to stores does not have and some S3-compatible stores
do not either.
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

MAX_MISSED_HEARTBEATS = 4
"""Number of missed heartbeats after which a driver counts as gone."""

SETTLE_SECONDS = 1.0
"""Seconds between writing the lease and reading it back. Of two drivers that take it at the same
moment, the one that wrote first finds itself overwritten; if the other's write took longer than
this, it finds out at its next heartbeat and stops."""


class Lease:
    """The right to run a study, from :meth:`acquire` to :meth:`release`.

    Args:
        store: The study's folder.
        previous_owner: An owner known to be gone, whose lease is taken over without waiting;
            ``None`` if there is none.
    """

    def __init__(self, store: Store, previous_owner: str | None = None) -> None:
        self.store = store
        self.owner = uuid4().hex
        self.previous_owner = previous_owner
        self.num_heartbeats = 0
        self.failure: str | None = None
        """The reason why the lease is lost; ``None`` while it is held."""
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._send_heartbeats, name="lease", daemon=True)

    def acquire(self) -> None:
        """Take the lease and start sending heartbeats in the background.

        Raises:
            ValueError: Another driver holds it.
        """
        found = self._read()
        if found is not None and found["owner"] != self.previous_owner:
            self._wait_until_abandoned(found)
        self._write()
        time.sleep(SETTLE_SECONDS)
        if self._owner() != self.owner:
            raise self._held_by_another()
        self.thread.start()

    def _wait_until_abandoned(self, found: dict[str, object]) -> None:
        """Block until enough heartbeats are missing; raise if one arrives."""
        for _ in range(MAX_MISSED_HEARTBEATS):
            time.sleep(HEARTBEAT_SECONDS)
            again = self._read()
            if again is None:
                return
            if again != found:
                raise self._held_by_another()

    def _held_by_another(self) -> ValueError:
        return ValueError(
            f"{self.store}: this study is running already, perhaps on another machine."
        )

    def stop(self) -> None:
        """Stop sending heartbeats but leave the lease, which others will see as abandoned."""
        self.stopping.set()
        if self.thread.is_alive():
            self.thread.join()

    def release(self) -> None:
        """Stop sending heartbeats, and delete the lease unless another driver has taken it."""
        self.stop()
        if self._owner() == self.owner:
            self.store.delete(NAME)

    def _send_heartbeats(self) -> None:
        while not self.stopping.wait(HEARTBEAT_SECONDS):
            try:
                # A driver that was suspended for long was taken for dead, and has a successor.
                if self._owner() != self.owner:
                    self.failure = f"{self.store}: another driver has taken over this study."
                    return
                self.num_heartbeats += 1
                self._write()
            except StoreError as error:
                self.failure = str(error)
                return

    def _write(self) -> None:
        lease = {"owner": self.owner, "beat": self.num_heartbeats}
        self.store.write(NAME, json.dumps(lease).encode())

    def _read(self) -> dict[str, object] | None:
        try:
            content: dict[str, object] = json.loads(self.store.read(NAME))
        except FileNotFoundError:
            return None
        return content

    def _owner(self) -> object:
        return (self._read() or {}).get("owner")
