"""A trial's files: written whole or not at all, so that any moment is a good one to be killed."""

import csv
import io
import os
import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch

from trainables.checkpointing.object_store import Store
from trainables.checkpointing.uploads import Uploads


def make_writable(folder: Path) -> None:
    """Makes a folder, unless it is there, and tries to write to it.

    Raises:
        ValueError: That is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"{folder}: cannot be written to ({error.strerror}).") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file in one step; after a crash it holds the old or the new content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def save_tensors(path: Path, state: Mapping[str, Any]) -> None:
    """Saves nested dictionaries of tensors, numbers and strings atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def load_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Reads what torch saved, without running code that the file may hold.

    Raises:
        ValueError: The file is missing, or not such a file.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file.") from error
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{path}: not a file of tensors saved with torch ({error}).") from error
    return state


class TrialFolder:
    """Where a trial keeps what it needs to go on.

    Args:
        path: The folder; made when first written to.
        store: Where its files outlive this machine, if ``path`` does not: they are uploaded while
            the trial goes on, and an earlier run's are fetched by :meth:`begin`.
    """

    def __init__(self, path: Path, store: Store | None = None) -> None:
        self.path = path
        self.store = store
        self.uploads = None if store is None else Uploads(store, self.latest.name)

    @property
    def best(self) -> Path:
        """The networks at the best evaluation so far.

        Beside them stand the names of the classes and the images' geometry, so that they can be
        used without the data.
        """
        return self.path / "best.pt"

    @property
    def latest(self) -> Path:
        """Everything that the next step depends on."""
        return self.path / "latest.pt"

    @property
    def config(self) -> Path:
        """The trial's configuration."""
        return self.path / "trial.yaml"

    @property
    def predictions(self) -> Path:
        """The selected checkpoint's classes of the target's images, as CSV."""
        return self.path / "predictions.csv"

    @property
    def done(self) -> Path:
        """Says that the trial is over; of pre-training, which leaves no record."""
        return self.path / "done"

    def confusion(self, test_set: str) -> Path:
        """The selected checkpoint's confusion matrix on a test set, as CSV."""
        return self.path / f"confusion-{quote(test_set, safe='')}.csv"

    # Written

    def write_config(self, text: str) -> None:
        """Writes the trial's configuration, YAML."""
        write_atomically(self.config, text.encode())
        self._upload(self.config)

    def save_best(self, state: Mapping[str, Any]) -> None:
        """Replaces :attr:`best`."""
        save_tensors(self.best, state)
        self._upload(self.best)

    def save_latest(self, state: Mapping[str, Any]) -> None:
        """Replaces :attr:`latest`."""
        save_tensors(self.latest, state)
        self._upload(self.latest)

    def write_predictions(self, rows: Iterable[tuple[str, str, float]]) -> None:
        """Writes image, class and probability of each row."""
        _write_csv(
            self.predictions,
            ("image", "class", "probability"),
            ((image, label, f"{probability:.6f}") for image, label, probability in rows),
        )
        self._upload(self.predictions)

    def write_confusion(
        self, test_set: str, classes: Sequence[str], counts: Sequence[Sequence[int]]
    ) -> None:
        """Writes counts ``(K, K)``: a line is a true class, a column a predicted one."""
        _write_csv(
            self.confusion(test_set),
            ("true class", *classes),
            ((name, *row) for name, row in zip(classes, counts, strict=True)),
        )
        self._upload(self.confusion(test_set))

    def write_error(self, text: str) -> None:
        """Writes why the trial failed."""
        if self.store is None:
            write_atomically(self.path / "error.txt", text.encode())
        else:  # the folder is gone
            self.store.write("error.txt", text.encode())

    def _upload(self, path: Path) -> None:
        if self.uploads is not None:
            self.uploads.push(path)

    # Elsewhere

    def begin(self) -> None:
        """Replaces what an earlier run has left here by what one has left in the store."""
        for path in (self.latest, self.best):
            self.fetch(path)

    def fetch(self, path: Path) -> None:
        """Replaces a file by the one in the store, if there is a store."""
        if self.store is not None:
            self.store.download(path.name, path)

    def wait(self) -> None:
        """Waits until all that was written is in the store, if there is one.

        Raises:
            StoreError: It could not be uploaded.
        """
        if self.uploads is not None:
            self.uploads.wait()

    def close(self) -> None:
        """Ends the uploads; those that have not begun are given up."""
        if self.uploads is not None:
            self.uploads.close()

    # Read

    def read_config(self) -> str | None:
        """The configuration of the trial that began here, YAML; ``None`` if none did."""
        try:
            return (
                self.store.read(self.config.name).decode()
                if self.store
                else self.config.read_text()
            )
        except FileNotFoundError:
            return None

    def read_confusion(self, test_set: str) -> tuple[list[str], list[list[int]]] | None:
        """Class names and counts ``(K, K)``; ``None`` if the trial wrote none."""
        path = self.confusion(test_set)
        try:
            content = self.store.read(path.name) if self.store else path.read_bytes()
        except FileNotFoundError:
            return None
        _, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
        return [name for name, *_ in rows], [[int(n) for n in counts] for _, *counts in rows]

    # Over

    def obtain(self) -> bool:
        """Whether the trial is over, here or, by the store, elsewhere.

        Its :attr:`best` networks are here then.
        """
        if self.done.exists():
            return True
        if self.store is None or not self.store.exists(self.done.name):
            return False
        self.fetch(self.best)
        write_atomically(self.done, b"")
        return True

    def finish(self) -> None:
        """Notes that the trial is over, and removes what only one that goes on would need."""
        self.discard_latest()
        write_atomically(self.done, b"")
        if self.store is not None:
            self.store.write(self.done.name, b"")
            self.store.delete(self.latest.name)

    def discard_latest(self) -> None:
        """Removes what only a trial that goes on would need."""
        self.latest.unlink(missing_ok=True)
