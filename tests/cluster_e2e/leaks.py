"""Looks for secrets where they must not be."""

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

DECOY = f"decoy-{secrets.token_hex(16)}"
"""A secret that is left where the others must not be: that it is found says that they would be."""


@dataclass
class ProcessList:
    """Reads the command lines of all processes, the machines' too, all the time."""

    secrets: list[str]
    found: dict[str, str] = field(default_factory=dict)
    """By secret: the last command line that held it."""
    is_over: Event = field(default_factory=Event)

    def __enter__(self) -> "ProcessList":
        self.thread = Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.is_over.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.is_over.wait(0.1):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes().decode(errors="replace")
                except OSError:
                    continue
                self.found.update({secret: line for secret in self.secrets if secret in line})


def files_with(
    secrets: Iterable[str], folders: Iterable[Path], but: Iterable[str] = ()
) -> list[str]:
    """Files below folders that hold a secret, those excepted whose names are given."""
    wanted, left_out = [secret.encode() for secret in secrets], set(but)
    found = []
    for folder in folders:
        assert folder.exists(), folder
        for path in folder.rglob("*"):
            try:
                if not path.is_file() or path.is_symlink() or path.name in left_out:
                    continue
                content = path.read_bytes()
            except OSError:  # gone in between
                continue
            if any(secret in content for secret in wanted):
                found.append(str(path))
    return found


def wait_for(what: Callable[[], object], seconds: float, why: str) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"waited in vain for {why}"
        time.sleep(0.2)
