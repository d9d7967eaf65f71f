"""What makes a study's files last: the disk that they are written to, or a store."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol


class Persistence(Protocol):
    """What makes a study's files last."""

    def begin(self) -> None:
        """The study begins; there was nothing to be kept before."""

    def check(self) -> None:
        """Ends a study that can no longer be kept, by an exception."""

    def keep(self, path: Path) -> None:
        """Returns when all that was appended to a file is where it lasts."""

    def discard(self, path: Path) -> None:
        """Deletes a file."""

    def sweep(self, paths: Iterable[Path]) -> None:
        """Deletes those files that are there although they were deleted, or should have been."""


class LocalDisk:
    """Keeps a study's files where they are written."""

    def begin(self) -> None:
        """Nothing."""

    def check(self) -> None:
        """Nothing."""

    def keep(self, path: Path) -> None:
        """Nothing: it is there."""

    def discard(self, path: Path) -> None:
        """See :class:`Persistence`."""
        path.unlink(missing_ok=True)

    def sweep(self, paths: Iterable[Path]) -> None:
        """See :class:`Persistence`."""
        for path in paths:
            self.discard(path)
