"""Folders of object stores, such as S3's: files that outlive the machine that wrote them.

Objects appear whole or not at all, and are replaced, never appended to.
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
"""Of URIs that pyarrow opens as object stores."""

PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Between attempts, each of which the store's own client has tried several times."""

CHUNK_BYTES = 16 << 20
"""That is in memory at a time. pyarrow sends what is larger than 10 MB in parts of that size, each
a request, with one before and one after them."""

THREADS = 16
"""For the download of many files."""


class StoreError(OSError):
    """A store could not be reached, or refused, however often it was asked."""


@dataclass(frozen=True)
class Store:
    """A folder of an object store; see :meth:`open`."""

    uri: str
    """Such as ``s3://bucket/prefix``, without a slash at its end."""
    path: str
    """What pyarrow calls it."""
    filesystem: "FileSystem"

    @classmethod
    def open(cls, uri: str) -> "Store":
        """Opens a folder; ``AWS_ENDPOINT_URL`` and the usual credentials are honoured.

        Raises:
            ValueError: It is no such thing. Whether the folder can be used is another question:
                see :meth:`check`.
        """
        from pyarrow import fs  # half a second; only for those who have a store

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
        """The folder that this one is in."""
        parts = urlsplit(self.uri)
        uri = urlunsplit(parts._replace(path=parts.path.rpartition("/")[0]))
        return replace(self, uri=uri, path=self.path.rpartition("/")[0])

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    def __str__(self) -> str:
        return self.uri

    def check(self) -> None:
        """Writes a small object, reads it and removes it.

        Raises:
            ValueError: One of them is not possible.
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
        """Makes or replaces a file."""
        self.upload(name, io.BytesIO(content))

    def upload(self, name: str, file: BinaryIO) -> None:
        """Makes or replaces a file with all that another holds."""

        def attempt() -> None:
            file.seek(0)
            stream = self.filesystem.open_output_stream(f"{self.path}/{name}")
            while chunk := file.read(CHUNK_BYTES):
                stream.write(chunk)
            stream.close()  # what is not closed does not come to be

        self._persistently(f"{name} cannot be written", attempt)

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            FileNotFoundError: There is no such file.
        """

        def attempt() -> bytes:
            with self.filesystem.open_input_stream(f"{self.path}/{name}") as stream:
                return bytes(stream.read())

        return self._persistently(f"{name} cannot be read", attempt)

    def download(self, name: str, path: Path) -> bool:
        """Replaces a local file in one step, or removes it if there is none here.

        Returns:
            Whether there is one.
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
        """Downloads files to the same names in a local folder.

        Args:
            names: With their sizes; empty ones need no request.
            folder: Where to.
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
        """Whether there is a file of this name."""
        from pyarrow import fs

        def attempt() -> bool:
            found = self.filesystem.get_file_info(f"{self.path}/{name}")
            return bool(found.type == fs.FileType.File)

        return self._persistently(f"{name} cannot be looked for", attempt)

    def files(self, folder: str = "", recursive: bool = True) -> dict[str, int]:
        """Names and sizes in bytes of the files in a folder of this one, and in those below."""
        return {
            name: size
            for name, size in self._entries(folder, recursive).items()
            if size is not None
        }

    def folders(self) -> list[str]:
        """The names of the folders in this one."""
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
        """Removes a file, if it is there."""
        try:
            self._persistently(
                f"{name} cannot be deleted",
                lambda: self.filesystem.delete_file(f"{self.path}/{name}"),
            )
        except FileNotFoundError:
            pass

    def _persistently(self, trouble: str, attempt: Callable[[], T]) -> T:
        """Tries something until it succeeds, or there is no hope."""
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
    """Where a trial's folders outlive its machine."""

    trial: Store
    """The trial's own."""
    cache: Store
    """Of what trials share and is costly to make again: pre-trained backbones."""


def is_uri(place: str) -> bool:
    """Whether a place is in an object store, by its name."""
    return place.partition("://")[0] in SCHEMES and "://" in place


def _frugal(uri: str) -> str:
    """The URI that makes pyarrow use one request for a small object instead of three."""
    parts = urlsplit(uri)
    if parts.scheme != "s3" or "allow_delayed_open" in parts.query:
        return uri
    option = "allow_delayed_open=true"
    return urlunsplit(parts._replace(query=f"{parts.query}&{option}" if parts.query else option))


def one_line(error: Exception) -> str:
    """What a store's client says, without requests' numbers and what stands before it."""
    text = " ".join(str(error).split())
    return re.sub(r"^.*?(AWS Error )|( \(Request ID: [^)]*\))", r"\1", text).rstrip(".")
