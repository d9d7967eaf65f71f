"""What a trial leaves behind: one JSON line, on disk before anything counts as finished."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from study.config.study_config import Cost
from study.storage.lines import cut_torn_line
from trainables.config import SelectionConfig
from trainables.configuration.schema import BaseConfig, validate

Stage = Literal["search", "final"]
Outcome = Literal["complete", "stopped", "failed"]
"""A trial ran to its end, was stopped early by the pruner, or failed."""


class EvaluationRecord(BaseConfig):
    """One report of a trial."""

    evaluation: int
    epoch: float
    objective: float
    """Of the best checkpoint so far."""
    metrics: dict[str, float]


class TrialRecord(BaseConfig):
    """Everything about a trial that ended."""

    id: str
    """``0007`` for a trial of the search, ``final-dann-seed1`` for a final run; in a joint search,
    which makes one record for each task, with the task's name: ``0007-s2rda49``. A final run whose
    id an earlier winner's has ends in its own configuration's digest."""
    stage: Stage
    condition: str
    """What it is compared as: ``dann``, or ``imagenet · dann`` where a space says so."""
    method: str
    """Its name."""
    seed: int
    outcome: Outcome
    reason: str | None = None
    """Why it failed, in one line."""
    params: dict[str, str | int | float | bool | None] = {}
    """The searched values, by path."""
    paths: dict[str, str] = {}
    """Names of files and folders as they were written, by place, where these were not absolute
    paths; the configuration has the absolute ones."""
    identity: str
    """The configuration's digest."""
    config: dict[str, Any]
    """The whole configuration; ``trainables.run --record`` runs it again."""
    objective: float | None = None
    """The criterion at the selected checkpoint; absent if the trial failed before one."""
    least_objective: float | None = None
    """Below it, the source of that checkpoint is not learned; absent if there is none."""
    best_evaluation: int = 0
    """Which evaluation that was, counted from 1."""
    num_evaluations: int = 0
    """How many a complete trial has."""
    evaluations: list[EvaluationRecord] = Field(default_factory=list)
    test: dict[str, float] = {}
    """Metrics of the test sets; final runs only."""
    seconds: float = 0.0
    """Wall-clock time of training and evaluation."""
    cpu_seconds: float = 0.0
    """Processor time of the same, over all workers."""
    restarts: int = 0
    """How often its worker was lost."""
    same_as: str | None = None
    """The trial of the same configuration whose figures these are, ``0003`` of this study or
    ``digits/0003`` of another; this one did not run."""

    @property
    def task(self) -> str:
        """Its name."""
        return str(next(iter(self.config["task"])))

    @property
    def trial(self) -> str:
        """Of a search, what its records on all tasks have in common: ``0007``."""
        return self.id.partition("-")[0]

    @property
    def selection(self) -> SelectionConfig:
        """How its checkpoint was chosen."""
        return SelectionConfig.model_validate(self.config["selection"])

    def selected(self) -> dict[str, float]:
        """The metrics of the selected checkpoint; empty if there is none."""
        return next(
            (e.metrics for e in self.evaluations if e.evaluation == self.best_evaluation), {}
        )

    def test_sets(self) -> list[str]:
        """The names of the sets that it was tested on."""
        return [
            name.removesuffix("/accuracy")
            for name in self.test
            if name.endswith("/accuracy") and name.count("/") == 1
        ]


def cost_of(record: TrialRecord, cost: Cost) -> float:
    """What a trial cost."""
    return record.cpu_seconds if cost == "cpu_seconds" else record.seconds


class RecordFile:
    """A study's records, appended to by one process.

    What is asked of them at every trial is counted as they come.

    Args:
        path: The JSON-lines file; made with the first record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, TrialRecord] = {}
        self.outcomes: Counter[Outcome] = Counter()
        self.by_identity: dict[str, TrialRecord] = {}
        """The first trial of each configuration that did not fail."""
        self.conditions: set[str] = set()
        """Those that have a trial of the search that may win."""
        self.num_searched = 0
        """Those of the search."""
        self.num_finals = 0
        """Final runs, those of earlier winners too."""
        self.epochs = 0.0
        """What trials of the search have trained themselves."""
        if path.exists():
            cut_torn_line(path)
        for record in read_records(path):
            self._count(record)

    def append(self, record: TrialRecord) -> None:
        """Writes a record through to the disk."""
        assert record.id not in self.records, f"{record.id} is recorded already"
        with self.path.open("ab") as file:
            file.write(record.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._count(record)

    def _count(self, record: TrialRecord) -> None:
        self.records[record.id] = record
        self.outcomes[record.outcome] += 1
        if record.outcome != "failed":
            self.by_identity.setdefault(record.identity, record)
        if record.stage == "final":
            self.num_finals += 1
        else:
            self.num_searched += 1
            if record.objective is not None and record.outcome != "failed":
                self.conditions.add(record.condition)
            if record.evaluations and record.same_as is None:
                self.epochs += record.evaluations[-1].epoch


def read_records(path: Path) -> list[TrialRecord]:
    """The records of a study, finished or not.

    A last line without its end was cut off by a crash, or is being written, and does not count.

    Raises:
        ValueError: A line is not a record; the message gives its number.
    """
    return list(_read(path))


def by_task(records: Sequence[TrialRecord]) -> dict[str, list[TrialRecord]]:
    """The records of each task, in the order of the first one of each."""
    tasks: dict[str, list[TrialRecord]] = {}
    for record in records:
        tasks.setdefault(record.task, []).append(record)
    return tasks


def _read(path: Path) -> Iterator[TrialRecord]:
    if not path.exists():
        return
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            yield validate(TrialRecord, json.loads(line))
        except ValueError as error:
            reason = "; ".join(str(error).splitlines())
            raise ValueError(f"{path}:{number}: not a trial record ({reason}).") from error
