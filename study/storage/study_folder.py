"""The files of a study's folder."""

import json
from dataclasses import dataclass
from pathlib import Path

from trainables.checkpointing.object_store import Store
from trainables.checkpointing.trial_folder import TrialFolder

NOTE = ".store"
"""The file of a working copy that says what it is a copy of."""


@dataclass(frozen=True)
class StudyFolder:
    """The files of a study's folder."""

    root: Path
    store: Store | None = None
    """The same folder where it outlives this machine, of which ``root`` is a working copy."""

    @classmethod
    def at(cls, root: Path) -> "StudyFolder":
        """A study's folder, or the working copy of one in a store."""
        try:
            note = json.loads((root / NOTE).read_text())
        except FileNotFoundError:
            return cls(root)
        return cls(root, Store.open(note["store"]))

    @property
    def place(self) -> str:
        """Where the study is kept: a path or a URI."""
        return str(self.root if self.store is None else self.store)

    @property
    def space(self) -> Path:
        """The study's configuration, resolved."""
        return self.root / "study.yaml"

    @property
    def environment(self) -> Path:
        """Versions, git revision, machine and command."""
        return self.root / "environment.json"

    @property
    def journal(self) -> Path:
        """Optuna's storage."""
        return self.root / "optuna.journal"

    @property
    def records(self) -> Path:
        """One line for each trial that ended."""
        return self.root / "records.jsonl"

    @property
    def tensorboard(self) -> Path:
        """One folder of events for each trial."""
        return self.root / "tensorboard"

    @property
    def log(self) -> Path:
        """Everything that Ray, Optuna and the trials say."""
        return self.root / "study.log"

    @property
    def result(self) -> Path:
        """The final table."""
        return self.root / "result.json"

    @property
    def growing(self) -> tuple[Path, ...]:
        """The files to whose ends lines are added."""
        return self.records, self.journal, self.log

    @property
    def whole(self) -> tuple[Path, ...]:
        """The files that are written as a whole."""
        return self.space, self.environment, self.result

    def trial(self, trial_id: str) -> Path:
        """A trial's own folder."""
        return self.root / "trials" / trial_id

    def files(self, trial_id: str) -> TrialFolder:
        """What is in that folder, or in the store."""
        own = None if self.store is None else self.store / "trials" / trial_id
        return TrialFolder(self.trial(trial_id), own)

    def has_trial(self, trial_id: str) -> bool:
        """Whether a trial has left something."""
        if self.store is None:
            return self.trial(trial_id).exists()
        return bool((self.store / "trials" / trial_id).files())

    def workplace(self, trial_id: str) -> Path:
        """Where a trial's process has its files: its folder, or, beside a store, any disk."""
        return self.trial(trial_id) if self.store is None else self.root / ".trials" / trial_id

    def description(self) -> str | None:
        """The study's configuration as it is kept, YAML; ``None`` if no study is."""
        try:
            return (
                self.space.read_text()
                if self.store is None
                else self.store.read(self.space.name).decode()
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
