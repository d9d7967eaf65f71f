"""The interface by which a study makes its files durable: on a disk, or in an object store."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from typing_extensions import override


class Persistence(Protocol):
    """Makes a study's files durable."""

    def begin(self) -> None:
        """Start keeping files: the study begins."""

    def check(self) -> None:
        """Raise if results can no longer be stored."""

    def keep(self, path: Path) -> None:
        """Block until everything appended to a file is durable."""

    def discard(self, path: Path) -> None:
        """Delete a file."""

    def sweep(self, paths: Iterable[Path]) -> None:
        """Delete the given files again where they exist: uploads may have arrived late."""


class LocalDisk(Persistence):
    """The local disk: a file is durable once it is written and flushed."""

    @override
    def begin(self) -> None: ...

    @override
    def check(self) -> None: ...

    @override
    def keep(self, path: Path) -> None: ...

    @override
    def discard(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    @override
    def sweep(self, paths: Iterable[Path]) -> None:
        for path in paths:
            self.discard(path)
