"""The record of an ended trial: one JSON line, on disk before the trial counts as finished."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from study.config.study_config import Cost
from study.spaces.conditions import SEPARATOR, label
from study.storage.lines import cut_torn_line
from trainables.configuration.former_keys import present_path, with_present_keys
from trainables.configuration.schema import BaseConfig, validate
from trainables.trial_config import SelectionConfig, TrialConfig

Stage = Literal["search", "final"]
Outcome = Literal["complete", "pruned", "failed"]
"""A trial ran to its end, was stopped early by the pruner, or failed for good."""

FORMER_OUTCOMES = {"stopped": "pruned"}
"""Outcomes as versions before 0.2 wrote them."""


class EvaluationRecord(BaseConfig):
    """One evaluation of a trial."""

    evaluation: int
    epoch: float
    objective: float
    """The criterion at the best checkpoint so far."""
    metrics: dict[str, float]


class TrialRecord(BaseConfig):
    """Everything about a run that has ended: a trial on one task."""

    id: str
    """``0007`` for a trial of the search, ``final-dann-seed1`` for a final run; in a joint search,
    which makes one record per task, followed by the task's name: ``0007-s2rda49``. If a final run
    of an earlier winner has the id already, the configuration's digest is appended."""
    stage: Stage
    condition: str
    """The row of the table it belongs to: ``dann``, or ``imagenet · dann`` by ``compare_by``."""
    method: str
    """The method's name."""
    seed: int
    outcome: Outcome
    reason: str | None = None
    """The cause of a failure, in one line."""
    params: dict[str, str | int | float | bool | None] = {}
    """The searched values by path."""
    paths: dict[str, str] = {}
    """Files and folders as the space spells them, by place, where that is not an absolute path;
    the configuration holds the absolute ones."""
    identity: str
    """The configuration's digest."""
    config: dict[str, Any]
    """The complete configuration; ``trainables.run --record`` runs it again."""
    objective: float | None = None
    """The criterion at the selected checkpoint; null if the trial failed before the first one."""
    objective_floor: float | None = None
    """An objective below it means that the source is not learned; null if there is no floor."""
    best_evaluation: int = 0
    """The evaluation of the selected checkpoint, counted from 1; 0 if there is none."""
    num_evaluations: int = 0
    """The number of evaluations of a complete trial."""
    evaluations: list[EvaluationRecord] = Field(default_factory=list)
    test: dict[str, float] = {}
    """Metrics of the test sets; only final runs have them."""
    seconds: float = 0.0
    """Wall-clock time of training and evaluation."""
    cpu_seconds: float = 0.0
    """Processor time of training and evaluation, summed over workers."""
    restarts: int = 0
    """How often a worker was lost."""
    same_as: str | None = None
    """The trial of the same configuration whose figures these are, ``0003`` of this study or
    ``digits/0003`` of another; this trial did not run."""

    @model_validator(mode="before")
    @classmethod
    def _read_former_names(cls, values: object) -> object:
        """Translate what versions before 0.2 wrote."""
        if not isinstance(values, dict):
            return values
        present = dict(values)
        if "least_objective" in present:
            present["objective_floor"] = present.pop("least_objective")
        if "outcome" in present:
            present["outcome"] = FORMER_OUTCOMES.get(str(present["outcome"]), present["outcome"])
        params = present.get("params")
        if isinstance(params, dict):
            if isinstance(present.get("condition"), str):
                present["condition"] = _present_condition(present["condition"], params)
            present["params"] = {present_path(name): value for name, value in params.items()}
        if "config" in present:
            present["config"] = with_present_keys(present["config"])
        return present

    @property
    def task(self) -> str:
        """The name of its task.

        It is read without validation, so that records whose plugin is not installed here can be
        listed.
        """
        return str(next(iter(self.config["task"])))

    @cached_property
    def trial_config(self) -> TrialConfig:
        """The validated configuration.

        Raises:
            ConfigError: This version, or this machine without the plugin, cannot read it.
        """
        return validate(TrialConfig, self.config)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy; what was derived from the configuration is derived again."""
        copied = super().model_copy(update=update, deep=deep)
        for derived in ("trial_config", "selection"):
            vars(copied).pop(derived, None)
        return copied

    @property
    def is_complete_final(self) -> bool:
        """Whether it is a final run that reached its end."""
        return self.stage == "final" and self.outcome == "complete"

    @property
    def trial(self) -> str:
        """The part of the id that a search trial's records on all tasks share: ``0007``."""
        return self.id.partition("-")[0]

    @cached_property
    def selection(self) -> SelectionConfig:
        """How its checkpoint was chosen; readable without the method's or task's plugin."""
        return validate(SelectionConfig, self.config["selection"])

    def selected(self) -> dict[str, float]:
        """Return the metrics of the selected checkpoint; empty if there is none."""
        return next(
            (e.metrics for e in self.evaluations if e.evaluation == self.best_evaluation), {}
        )

    def test_sets(self) -> list[str]:
        """Return the names of the sets that it was tested on."""
        return [
            name.removesuffix("/accuracy")
            for name in self.test
            if name.endswith("/accuracy") and name.count("/") == 1
        ]

    def cost(self, unit: Cost) -> float:
        """Return what the trial took: processor seconds or wall-clock seconds."""
        return self.cpu_seconds if unit == "cpu_seconds" else self.seconds


def _present_condition(condition: str, params: Mapping[str, Any]) -> str:
    """Return a condition's name with the former names of compared settings replaced."""
    present = {
        label(name, value): label(present_path(name), value)
        for name, value in params.items()
        if present_path(name) != name and not isinstance(value, str)
    }
    return SEPARATOR.join(present.get(part, part) for part in condition.split(SEPARATOR))


class RecordFile:
    """A study's records, appended to by one process.

    What a session asks at every trial is counted as records arrive, so that no step slows down
    as the study grows.

    Args:
        path: The JSON-lines file; created with the first record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, TrialRecord] = {}
        self.outcomes: Counter[Outcome] = Counter()
        self.by_identity: dict[str, TrialRecord] = {}
        """The first trial of each configuration that did not fail."""
        self.conditions: set[str] = set()
        """Conditions that have a trial of the search that can win."""
        self.num_searched = 0
        """Number of records of the search."""
        self.num_finals = 0
        """Number of final runs, including those of earlier winners."""
        self.epochs = 0.0
        """Epochs trained by search trials; results taken over from another trial add none."""
        if path.exists():
            cut_torn_line(path)
        for record in read_records(path):
            self._count(record)

    def append(self, record: TrialRecord) -> None:
        """Append a record and flush it to disk."""
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
    """Read the records of a study, finished or not.

    A last line without a line end was cut off by a crash, or is being written: it is ignored.

    Raises:
        ValueError: A line is not a record; the message gives its number.
    """
    return list(_read(path))


def by_task(records: Sequence[TrialRecord]) -> dict[str, list[TrialRecord]]:
    """Group records by task, in the order of each task's first record."""
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
