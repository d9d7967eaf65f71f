"""Folders in object stores, such as S3: files that outlive the machine that wrote them.

Objects appear completely or not at all, and are replaced, never appended to.
"""

import io
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import uuid4

from trainables.checkpointing.files import atomic_writer

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

T = TypeVar("T")

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss")
"""URI schemes that pyarrow opens as object stores."""

PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Pauses between attempts. Within an attempt, the store's client retries several times itself."""

CHUNK_BYTES = 16 << 20
"""Bytes of a file held in memory. pyarrow uploads files above 10 MB in parts of that size, with a
request for each and one before and after them."""

THREADS = 16
"""Threads that download many files."""


class StoreError(OSError):
    """The store could not be reached, or kept refusing, after several attempts."""


@dataclass(frozen=True)
class Store:
    """A folder in an object store; :meth:`open` makes one."""

    uri: str
    """URI such as ``s3://bucket/prefix``, without a slash at its end."""
    path: str
    """Path of the folder for pyarrow: without scheme and options."""
    filesystem: "FileSystem"

    @classmethod
    def open(cls, uri: str) -> "Store":
        """Open a folder without connecting to the store; :meth:`check` does that.

        ``AWS_ENDPOINT_URL`` and the usual credentials are honoured.

        Raises:
            ValueError: The URI is not that of a folder in an object store.
        """
        from pyarrow import fs  # takes half a second; only studies with a store pay for it

        if not is_uri(uri) or not urlsplit(uri).netloc:
            raise ValueError(
                f"{uri}: must be a folder of an object store, such as s3://bucket/prefix."
            )
        try:
            filesystem, path = fs.FileSystem.from_uri(_frugal(uri.rstrip("/")))
        except (ValueError, OSError) as error:  # pyarrow's ArrowInvalid is a ValueError
            raise ValueError(f"{uri}: cannot be opened ({one_line(error)}).") from error
        return cls(uri.rstrip("/"), path.rstrip("/"), filesystem)

    def __truediv__(self, name: str) -> "Store":
        parts = urlsplit(self.uri)
        uri = urlunsplit(parts._replace(path=f"{parts.path}/{quote(name)}"))
        return replace(self, uri=uri, path=f"{self.path}/{name}")

    @property
    def parent(self) -> "Store":
        """The parent folder."""
        parts = urlsplit(self.uri)
        uri = urlunsplit(parts._replace(path=parts.path.rpartition("/")[0]))
        return replace(self, uri=uri, path=self.path.rpartition("/")[0])

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def __str__(self) -> str:
        return self.uri

    def check(self) -> None:
        """Write a small object, read it and remove it.

        Raises:
            ValueError: One of these operations failed.
        """
        name = f"{self.path}/.check-{uuid4().hex}"
        try:
            with self.filesystem.open_output_stream(name) as stream:
                stream.write(b"?")
            with self.filesystem.open_input_stream(name) as stream:
                stream.read()
            self.filesystem.delete_file(name)
        except OSError as error:
            raise ValueError(
                f"{self.uri}: cannot be written to and read ({one_line(error)}). "
                "The bucket has to exist, and the credentials have to allow "
                "reading, writing, listing and deleting."
            ) from error

    def write(self, name: str, content: bytes) -> None:
        """Write or replace a file."""
        self.upload(name, io.BytesIO(content))

    def upload(self, name: str, file: BinaryIO) -> None:
        """Write or replace a file with the whole content of another."""

        def attempt() -> None:
            file.seek(0)
            stream = self.filesystem.open_output_stream(f"{self.path}/{name}")
            while chunk := file.read(CHUNK_BYTES):
                stream.write(chunk)
            stream.close()  # the object appears only when its stream is closed

        self._persistently(f"{name} cannot be written", attempt)

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: The file does not exist.
        """

        def attempt() -> bytes:
            with self.filesystem.open_input_stream(f"{self.path}/{name}") as stream:
                return bytes(stream.read())

        return self._persistently(f"{name} cannot be read", attempt)

    def download(self, name: str, path: Path) -> bool:
        """Replace a local file in one step, or remove it if the store has none.

        Returns:
            Whether the store has the file.
        """

        def attempt() -> None:
            with (
                self.filesystem.open_input_stream(f"{self.path}/{name}") as stream,
                atomic_writer(path) as file,
            ):
                while chunk := stream.read(CHUNK_BYTES):
                    file.write(chunk)

        try:
            self._persistently(f"{name} cannot be read", attempt)
        except FileNotFoundError:
            path.unlink(missing_ok=True)
            return False
        return True

    def download_all(self, names: dict[str, int], folder: Path) -> None:
        """Download files to the same names in a local folder.

        Args:
            names: Names of files and their sizes in bytes; empty files need no request.
            folder: The local folder.
        """

        def get(name: str) -> None:
            if names[name]:
                self.download(name, folder / name)
            else:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(b"")

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(get, names))

    def exists(self, name: str) -> bool:
        """Return whether the file exists."""
        from pyarrow import fs

        def attempt() -> bool:
            found = self.filesystem.get_file_info(f"{self.path}/{name}")
            return bool(found.type == fs.FileType.File)

        return self._persistently(f"{name} cannot be looked for", attempt)

    def files(self, folder: str = "", recursive: bool = True) -> dict[str, int]:
        """Return names and sizes in bytes of the files in a folder below this one.

        Args:
            folder: The folder, relative to this one; this one itself by default.
            recursive: Whether its subfolders are listed, too.
        """
        return {
            name: size
            for name, size in self._entries(folder, recursive).items()
            if size is not None
        }

    def folders(self) -> list[str]:
        """Return the names of the folders in this one."""
        return sorted(name for name, size in self._entries("", False).items() if size is None)

    def _entries(self, folder: str, recursive: bool) -> dict[str, int | None]:
        from pyarrow import fs

        selector = fs.FileSelector(
            f"{self.path}/{folder}".rstrip("/"), recursive=recursive, allow_not_found=True
        )
        found = self._persistently(
            f"{folder or 'it'} cannot be listed", lambda: self.filesystem.get_file_info(selector)
        )
        return {
            info.path.removeprefix(f"{self.path}/"): info.size if info.is_file else None
            for info in found
        }

    def delete(self, name: str) -> None:
        """Remove a file if it exists."""
        try:
            self._persistently(
                f"{name} cannot be deleted",
                lambda: self.filesystem.delete_file(f"{self.path}/{name}"),
            )
        except FileNotFoundError:
            pass

    def _persistently(self, trouble: str, attempt: Callable[[], T]) -> T:
        """Return what an attempt returns, after several attempts if need be."""
        for pause in (*PAUSES_SECONDS, None):
            try:
                return attempt()
            except FileNotFoundError:
                raise
            except OSError as error:
                if pause is None:
                    raise StoreError(f"{self.uri}: {trouble} ({one_line(error)}).") from error
                time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")


@dataclass(frozen=True)
class Stores:
    """The folders in a store that keep what a trial writes."""

    trial: Store
    """The trial's own folder."""
    cache: Store
    """The folder that trials share, for what is costly to make again: pre-trained backbones."""


def is_uri(place: str) -> bool:
    """Return whether a path is the URI of an object store."""
    return place.partition("://")[0] in SCHEMES and "://" in place


def _frugal(uri: str) -> str:
    """Return the URI with which pyarrow writes a small object in one request instead of three."""
    parts = urlsplit(uri)
    if parts.scheme != "s3" or "allow_delayed_open" in parts.query:
        return uri
    option = "allow_delayed_open=true"
    return urlunsplit(parts._replace(query=f"{parts.query}&{option}" if parts.query else option))


def one_line(error: Exception) -> str:
    """Return the message of a store's client without its prefix and the ids of requests."""
    text = " ".join(str(error).split())
    return re.sub(r"^.*?(AWS Error )|( \(Request ID: [^)]*\))", r"\1", text).rstrip(".")
