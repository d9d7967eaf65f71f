"""The layout of a study's folder: the only module that knows the names of its files."""

import json
from dataclasses import dataclass
from pathlib import Path

from trainables.checkpointing.object_store import Store
from trainables.checkpointing.trial_folder import TrialFolder

NOTE = ".store"
"""A working copy's file that names the store it is a copy of."""


@dataclass(frozen=True)
class StudyFolder:
    """The paths in a study's folder."""

    root: Path
    store: Store | None = None
    """The folder in an object store of which ``root`` is a working copy."""

    @classmethod
    def at(cls, root: Path) -> "StudyFolder":
        """Open a study's folder, which may be the working copy of one in a store."""
        try:
            note = json.loads((root / NOTE).read_text())
        except FileNotFoundError:
            return cls(root)
        return cls(root, Store.open(note["store"]))

    @property
    def place(self) -> str:
        """The path or URI where the study is kept, for messages."""
        return str(self.root if self.store is None else self.store)

    @property
    def space(self) -> Path:
        """The study's complete configuration, ``study.yaml``."""
        return self.root / "study.yaml"

    @property
    def environment(self) -> Path:
        """Versions, git revision, machine and command of each process that ran the study."""
        return self.root / "environment.json"

    @property
    def journal(self) -> Path:
        """Optuna's journal storage."""
        return self.root / "optuna.journal"

    @property
    def records(self) -> Path:
        """One JSON line for each run that ended."""
        return self.root / "records.jsonl"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's log directory, with a folder per run."""
        return self.root / "tensorboard"

    @property
    def log(self) -> Path:
        """The log of Ray, Optuna and the trials."""
        return self.root / "study.log"

    @property
    def result(self) -> Path:
        """The final table as JSON."""
        return self.root / "result.json"

    @property
    def appended_files(self) -> tuple[Path, ...]:
        """The files that only grow, line by line."""
        return self.records, self.journal, self.log

    @property
    def replaced_files(self) -> tuple[Path, ...]:
        """The files that are replaced as a whole."""
        return self.space, self.environment, self.result

    def trial(self, trial_id: str) -> Path:
        """Return a run's own folder."""
        return self.root / "trials" / trial_id

    def files(self, trial_id: str) -> TrialFolder:
        """Return the files of a run, on disk or in the store."""
        own = None if self.store is None else self.store / "trials" / trial_id
        return TrialFolder(self.trial(trial_id), own)

    def has_trial(self, trial_id: str) -> bool:
        """Return whether a run has left files."""
        if self.store is None:
            return self.trial(trial_id).exists()
        return bool((self.store / "trials" / trial_id).files())

    def working_folder(self, trial_id: str) -> Path:
        """Return the folder that a run's process writes to.

        With a store it is a scratch folder: the process uploads its files itself, and may be on
        another machine than the driver.
        """
        return self.trial(trial_id) if self.store is None else self.root / ".trials" / trial_id

    def description(self) -> str | None:
        """Return the content of ``study.yaml``; ``None`` if no study is here."""
        try:
            return (
                self.space.read_text()
                if self.store is None
                else self.store.read(self.space.name).decode()
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
