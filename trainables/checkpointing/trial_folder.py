"""The files of a trial: its configuration, checkpoints, predictions and errors."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from trainables.checkpointing.files import write_atomically
from trainables.checkpointing.object_store import Store
from trainables.checkpointing.tensors import save_tensors
from trainables.checkpointing.uploads import Uploads

CONFIG = "trial.yaml"
"""Name of the file with a trial's configuration, in its folder and in an exported model's."""


class TrialFolder:
    """The files that a trial writes and resumes from.

    Args:
        path: The folder; made when first written to.
        store: A folder in an object store where the files outlive this machine, or ``None`` if
            ``path`` does. Files are then uploaded while training continues, and those of an
            earlier run are downloaded by :meth:`begin`.
    """

    def __init__(self, path: Path, store: Store | None = None) -> None:
        self.path = path
        self.store = store
        self.uploads = None if store is None else Uploads(store, self.latest.name)

    @property
    def best(self) -> Path:
        """The networks at the best evaluation so far.

        The file also holds the names of the classes and the geometry of the images, so that the
        networks can be used without the data.
        """
        return self.path / "best.pt"

    @property
    def latest(self) -> Path:
        """Everything that the next step depends on."""
        return self.path / "latest.pt"

    @property
    def config(self) -> Path:
        """The trial's configuration."""
        return self.path / CONFIG

    @property
    def predictions(self) -> Path:
        """The selected checkpoint's classes of the target images, as CSV."""
        return self.path / "predictions.csv"

    @property
    def done(self) -> Path:
        """An empty file that says that pre-training is complete; other trials have a record."""
        return self.path / "done"

    def confusion(self, test_set: str) -> Path:
        """Return the path of the confusion matrix on a test set, a CSV file."""
        return self.path / f"confusion-{quote(test_set, safe='')}.csv"

    # Writing

    def write_config(self, text: str) -> None:
        """Write the trial's configuration, given as YAML."""
        write_atomically(self.config, text.encode())
        self._upload(self.config)

    def save_best(self, state: Mapping[str, Any]) -> None:
        """Replace :attr:`best`."""
        save_tensors(self.best, state)
        self._upload(self.best)

    def save_latest(self, state: Mapping[str, Any]) -> None:
        """Replace :attr:`latest`."""
        save_tensors(self.latest, state)
        self._upload(self.latest)

    def write_predictions(self, rows: Iterable[tuple[str, str, float]]) -> None:
        """Write the image, the class and its probability of each row."""
        _write_csv(
            self.predictions,
            ("image", "class", "probability"),
            ((image, label, f"{probability:.6f}") for image, label, probability in rows),
        )
        self._upload(self.predictions)

    def write_confusion(
        self, test_set: str, classes: Sequence[str], counts: Sequence[Sequence[int]]
    ) -> None:
        """Write counts ``(K, K)``; a row is a true class, a column a predicted one."""
        _write_csv(
            self.confusion(test_set),
            ("true class", *classes),
            ((name, *row) for name, row in zip(classes, counts, strict=True)),
        )
        self._upload(self.confusion(test_set))

    def write_error(self, text: str) -> None:
        """Write why the trial failed."""
        if self.store is None:
            write_atomically(self.path / "error.txt", text.encode())
        else:  # the local folder is removed after a trial
            self.store.write("error.txt", text.encode())

    def _upload(self, path: Path) -> None:
        if self.uploads is not None:
            self.uploads.push(path)

    # Storing

    def begin(self) -> None:
        """Replace the checkpoints in this folder by those in the store, if there is a store.

        Local ones may be older: another machine may have continued the trial meanwhile.
        """
        for path in (self.latest, self.best):
            self.fetch(path)

    def fetch(self, path: Path) -> None:
        """Replace a file by the one in the store, if there is a store."""
        if self.store is not None:
            self.store.download(path.name, path)

    def wait(self) -> None:
        """Wait until everything that was written is in the store, if there is a store.

        Raises:
            StoreError: A file cannot be uploaded.
        """
        if self.uploads is not None:
            self.uploads.wait()

    def close(self) -> None:
        """End the uploads; those that have not begun are dropped."""
        if self.uploads is not None:
            self.uploads.close()

    # Reading

    def read_config(self) -> str | None:
        """Return the configuration as YAML, or ``None`` if no trial began here."""
        try:
            return (
                self.store.read(self.config.name).decode()
                if self.store
                else self.config.read_text()
            )
        except FileNotFoundError:
            return None

    def read_confusion(self, test_set: str) -> tuple[list[str], list[list[int]]] | None:
        """Return class names and counts ``(K, K)``, or ``None`` if the trial wrote none."""
        path = self.confusion(test_set)
        try:
            content = self.store.read(path.name) if self.store else path.read_bytes()
        except FileNotFoundError:
            return None
        _, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
        return [name for name, *_ in rows], [[int(n) for n in counts] for _, *counts in rows]

    # Completing

    def obtain(self) -> bool:
        """Return whether the trial is complete, after downloading :attr:`best` if need be."""
        if self.done.exists():
            return True
        if self.store is None or not self.store.exists(self.done.name):
            return False
        self.fetch(self.best)
        write_atomically(self.done, b"")
        return True

    def finish(self) -> None:
        """Mark the trial as complete and remove what only its continuation would need."""
        self.discard_latest()
        write_atomically(self.done, b"")
        if self.store is not None:
            self.store.write(self.done.name, b"")
            self.store.delete(self.latest.name)

    def discard_latest(self) -> None:
        """Remove the checkpoint that only a continuation of the trial would need."""
        self.latest.unlink(missing_ok=True)


def _write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
