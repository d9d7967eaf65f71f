"""Append-only files in an object store, whose objects cannot be appended to.

Rewriting an object with every line would upload megabytes after every trial of a long study; an
object per line would take as many requests to read as there are lines. So a file is stored as
parts that are merged as they age, as in a log-structured merge tree.

Own code: pyarrow, through which all stores are used, cannot append to objects of S3, and other
file systems over object stores rewrite the whole object at each flush.
"""

from itertools import count
from pathlib import Path
from threading import Lock

from trainables.checkpointing.files import write_atomically
from trainables.checkpointing.object_store import Store

TAIL_BYTES = 64 << 10
"""The last part is rewritten on append until it reaches this size in bytes, because a request
costs about the same for fewer."""

MAX_READ_ATTEMPTS = 10
"""Number of attempts to read all parts before one counts as missing."""


class RemoteLog:
    """A local line-based file and its copy in a store, a folder of parts.

    A part is named by the offset of its first byte. An addition becomes a part of its own, or is
    merged with the parts before it while these are small or less than twice as large. So the
    number of parts grows with the logarithm of the file's size, and so does the number of times
    that a line is uploaded. Only whole lines are uploaded.

    Args:
        path: The local file; it may be missing.
        store: The folder of its parts.
    """

    def __init__(self, path: Path, store: Store) -> None:
        self.path = path
        self.store = store
        self.parts: list[tuple[int, int]] = []
        """First byte of each part, and the one after its last."""
        self.lock = Lock()

    def push(self) -> None:
        """Upload the lines that were added since the last call.

        Raises:
            StoreError: The store cannot be written to.
        """
        # The session waits here for its records while the background sync pushes the same file.
        with self.lock:
            stored = self.parts[-1][1] if self.parts else 0
            end = self._whole_lines(stored)
            if end == stored:
                return
            begin, kept = stored, len(self.parts)
            while kept and _is_absorbed(self.parts[kept - 1], end - begin):
                kept -= 1
                begin = self.parts[kept][0]
            self.store.write(_name(begin), self._bytes(begin, end))
            # Parts that the new one contains are deleted last: a reader that finds both takes the
            # longer one, and a crash in between loses nothing.
            absorbed = self.parts[kept + 1 :]
            self.parts[kept:] = [(begin, end)]
            for old, _ in absorbed:
                self.store.delete(_name(old))

    def _whole_lines(self, begin: int) -> int:
        """Return the offset at which the last whole line ends."""
        if not self.path.exists():
            return begin
        return begin + self._bytes(begin, None).rfind(b"\n") + 1

    def _bytes(self, begin: int, end: int | None) -> bytes:
        with self.path.open("rb") as file:
            file.seek(begin)
            return file.read(-1 if end is None else end - begin)

    def pull(self) -> None:
        """Replace the local file by the store's, and delete leftovers of interrupted uploads."""
        content, self.parts = read_parts(self.store)
        if self.parts:
            write_atomically(self.path, content)
        else:
            self.path.unlink(missing_ok=True)
        for name in self.store.files():
            if name not in {_name(begin) for begin, _ in self.parts}:
                self.store.delete(name)


def read_parts(store: Store) -> tuple[bytes, list[tuple[int, int]]]:
    """Return the content of a file in a store, and the first byte and end of its parts.

    A part that begins inside an earlier one is a leftover that was to be deleted, and is skipped.

    Raises:
        ValueError: A part is missing.
    """
    for attempt in count():
        try:
            return _read_parts(store)
        except FileNotFoundError as error:  # the writer has merged parts since they were listed
            if attempt + 1 == MAX_READ_ATTEMPTS:
                raise ValueError(f"{store}: a part of this file is missing ({error}).") from error
    raise AssertionError("the last attempt returns or raises")


def _read_parts(store: Store) -> tuple[bytes, list[tuple[int, int]]]:
    content, parts = b"", []
    for name in sorted(store.files()):
        begin = int(name)
        if begin > len(content):
            raise FileNotFoundError(f"from byte {len(content)} to {begin}")
        if begin == len(content):
            content += store.read(name)
            parts.append((begin, len(content)))
    return content, parts


def _is_absorbed(part: tuple[int, int], size: int) -> bool:
    """Return whether a part is merged into the one after it, which has ``size`` bytes."""
    begin, end = part
    return end - begin < max(TAIL_BYTES, 2 * size)


def _name(begin: int) -> str:
    return f"{begin:012d}"
