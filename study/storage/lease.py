"""One driver of a study at a time, where no lock ends with its process: in an object store.

Whoever runs a study writes a beat into the store. Whoever finds one watches it for a while: if it
changes, the study is running; if it does not, its driver is gone and another may take over. No
clocks of two machines are compared.
"""

import json
import threading
import time
from uuid import uuid4

from trainables.checkpointing.object_store import Store, StoreError

NAME = ".lease"
"""Of the object."""

BEAT_SECONDS = 5.0
"""Between two beats."""

PATIENCE_BEATS = 4
"""That may be missing before a driver counts as gone."""

SETTLE_SECONDS = 1.0
"""In which another one that came at the same moment writes its beat over this one's."""


class Lease:
    """The right to run a study, from :meth:`acquire` to :meth:`release`.

    Args:
        store: The study's folder.
        owner: Whoever wants it; unlike any other.
        former: An owner that is known to be gone, and need not be watched.
    """

    def __init__(self, store: Store, former: str | None = None) -> None:
        self.store = store
        self.owner = uuid4().hex
        self.former = former
        self.heartbeat = 0
        self.trouble: str | None = None
        """Why it is no longer held."""
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def acquire(self) -> None:
        """Takes it, and beats in the background from now on.

        Raises:
            ValueError: Another driver has it.
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
        for _ in range(PATIENCE_BEATS):
            time.sleep(BEAT_SECONDS)
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
        """Beats no more, and leaves the last beat where it is."""
        self.over.set()
        if self.thread.is_alive():
            self.thread.join()

    def release(self) -> None:
        """Gives it back."""
        self.stop()
        if self._owner() == self.owner:
            self.store.delete(NAME)

    def _beat(self) -> None:
        while not self.over.wait(BEAT_SECONDS):
            try:
                if self._owner() != self.owner:
                    self.trouble = f"{self.store}: another driver has taken this study over."
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
