"""Files of lines that grow, in an object store, where nothing can be appended to."""

from itertools import count
from pathlib import Path
from threading import Lock

from trainables.checkpointing.files import write_atomically
from trainables.checkpointing.object_store import Store

TAIL_BYTES = 64 << 10
"""Up to which the last part is written anew with every addition."""


class RemoteLog:
    """A local file of lines, and its copy in a store: a folder of parts.

    A part is named by the byte that it begins with. Additions are a part of their own, or one with
    the parts before them as long as those are small, or less than twice as large: so the number of
    parts grows with the logarithm of the file's size, and so does how often a line is written
    again. Only whole lines are written.

    Args:
        path: The local file; it need not be there.
        store: The folder of its parts.
    """

    def __init__(self, path: Path, store: Store) -> None:
        self.path = path
        self.store = store
        self.parts: list[tuple[int, int]] = []
        """Begin and end of each, in bytes."""
        self.lock = Lock()

    def push(self) -> None:
        """Brings the lines into the store that were added since the last time.

        Raises:
            StoreError: That is not possible.
        """
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
            absorbed = self.parts[kept + 1 :]
            self.parts[kept:] = [(begin, end)]
            for old, _ in absorbed:
                self.store.delete(_name(old))

    def _whole_lines(self, begin: int) -> int:
        """Where the last whole line ends."""
        if not self.path.exists():
            return begin
        return begin + self._bytes(begin, None).rfind(b"\n") + 1

    def _bytes(self, begin: int, end: int | None) -> bytes:
        with self.path.open("rb") as file:
            file.seek(begin)
            return file.read(-1 if end is None else end - begin)

    def pull(self) -> None:
        """Replaces the local file by the store's, and clears away what was interrupted."""
        content, self.parts = read_parts(self.store)
        if self.parts:
            write_atomically(self.path, content)
        else:
            self.path.unlink(missing_ok=True)
        for name in self.store.files():
            if name not in {_name(begin) for begin, _ in self.parts}:
                self.store.delete(name)


def read_parts(store: Store) -> tuple[bytes, list[tuple[int, int]]]:
    """Content of a file in a store, and begin and end of its parts.

    A part whose begin is inside an earlier one was to be deleted and does not count.

    Raises:
        ValueError: A part is missing.
    """
    for attempt in count():
        try:
            return _read_parts(store)
        except FileNotFoundError as error:  # its writer has put parts together meanwhile
            if attempt == 9:
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
    """Whether a part is put together with the one after it, of a size in bytes."""
    begin, end = part
    return end - begin < max(TAIL_BYTES, 2 * size)


def _name(begin: int) -> str:
    return f"{begin:012d}"
