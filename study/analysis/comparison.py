"""From records to figures: means, spreads, regrets.

Pure; drawing is :mod:`study.reporting.summary`'s.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from study.analysis.criterion_agreement import Agreement, agreement
from study.analysis.paired_gains import Gain, gains
from study.analysis.pareto import Front, pareto_front
from study.config.study_config import Cost, Joint, StudyConfig
from study.trials.final_runs import finals_of
from study.trials.ranking import Rank, rank_trials, winners
from study.trials.records import TrialRecord, by_task
from trainables.criteria import SELECTORS

TARGET = "target_test"
"""The test set of real images, by convention of all tasks that have one."""
BATCHNORM = "target_batchnorm/"
"""Prefix of metrics with batch statistics re-estimated on the target."""


@dataclass(frozen=True)
class Spread:
    """A figure over seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean."""
        return float(np.mean(self.values))

    @property
    def std(self) -> float:
        """The sample standard deviation; 0 for a single value."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0


@dataclass(frozen=True)
class Row:
    """One condition of a study."""

    name: str
    metrics: dict[str, Spread]
    """The winner's final runs: ``<test set>/accuracy`` and so on, ``source_val/accuracy``;
    fractions. Where it has none, its own, if the search has measured on test sets."""
    num_seeds: int
    """Its final runs that are complete."""
    outcomes: dict[str, int]
    """Trials of the search by outcome."""
    cpu_seconds: float
    """Of search and final runs, those of earlier winners too."""
    params: dict[str, str | int | float | bool | None]
    """The winner's searched settings."""
    winner: str | None
    """Its id."""
    method: str = ""


@dataclass(frozen=True)
class Regret:
    """What the criterion's choice lost to the oracle's, on the oracle's labelled images.

    Both figures come from the search, one seed each, and are better than on fresh images: the
    oracle's because it chose by them.
    """

    name: str
    """The condition, ``all methods`` or ``all conditions``."""
    chosen: float
    """The oracle's figure at the checkpoint that the criterion chose."""
    oracle: float
    """The best of all checkpoints of all trials."""
    oracle_trial: str
    """Whose that is."""

    @property
    def regret(self) -> float:
        """What the choice lost; at least 0."""
        return self.oracle - self.chosen


@dataclass(frozen=True)
class Comparison:
    """A study's result."""

    criterion: str
    """What selected checkpoints and winners."""
    selected_by_target_labels: bool
    rows: tuple[Row, ...]
    baseline: Row | None
    """No Adaptation's final runs with the target's batch statistics."""
    regrets: tuple[Regret, ...]
    """Empty where the target has no labels."""
    agreement: Agreement | None = None
    """How the search's criteria agree with the oracle, or with each other."""
    gains: tuple[Gain, ...] = ()
    """Final runs' differences from No Adaptation's."""
    front: Front | None = None
    """Of criterion and cost, where the study minimises one."""
    joint: Joint | None = None
    """How winners were chosen for this and other tasks at once."""

    @property
    def names_differ(self) -> bool:
        """Whether conditions are other things than methods."""
        return any(row.name != row.method for row in self.rows)

    def best(self, metric: str) -> Row | None:
        """The row with the highest mean of a metric."""
        rows = [row for row in self.rows if metric in row.metrics]
        return max(rows, key=lambda row: row.metrics[metric].mean, default=None)


def compare_tasks(records: Sequence[TrialRecord], study: StudyConfig) -> dict[str, Comparison]:
    """Summarises a study, finished or not, on each of its tasks.

    Args:
        records: Of all trials that have ended.
        study: What they are of.
    """
    name = study.criterion.name
    reads_target_labels = SELECTORS.look_up(name).reads_target_labels
    tasks = by_task(records)
    standing = None
    if study.joint is not None:
        standing = rank_trials(records, study.joint, len(study.task_names))
    if study.joint is not None or not tasks:
        tasks = {task: tasks.get(task, []) for task in study.task_names}
    return {
        task: compare(own, name, reads_target_labels, study.cost, study.joint, standing)
        for task, own in tasks.items()
    }


def compare(
    records: Sequence[TrialRecord],
    criterion: str,
    reads_target_labels: bool,
    cost: Cost | None = None,
    joint: Joint | None = None,
    standing: Mapping[str, Rank] | None = None,
) -> Comparison:
    """Summarises a study on one task, finished or not.

    Args:
        records: Of all trials that have ended, on this task.
        criterion: The name of the selecting criterion.
        reads_target_labels: Whether it is an oracle.
        cost: What the study minimises beside it.
        joint: How it puts several tasks together.
        standing: Of its trials among all tasks; by these records if ``None``.
    """
    standing = rank_trials(records) if standing is None else standing
    best = winners(records, standing)
    finals = finals_of(best.values(), records)
    rows = tuple(
        _row(
            [r for r in records if r.condition == name],
            best.get(name),
            [r for r in finals if r.condition == name],
        )
        for name in condition_names(records)
    )
    return Comparison(
        criterion,
        reads_target_labels,
        rows,
        _baseline([r for r in finals if r.condition == "no_adaptation"]),
        _regrets(records, best, standing),
        agreement(records),
        gains(finals, f"{TARGET}/accuracy"),
        pareto_front(records, cost) if cost else None,
        joint,
    )


def condition_names(records: Sequence[TrialRecord]) -> list[str]:
    """Every condition once: No Adaptation first, the others in the order of their first trial."""
    ordered = sorted(
        records, key=lambda r: (r.condition != "no_adaptation", r.stage == "final", r.id)
    )
    return list(dict.fromkeys(record.condition for record in ordered))


def _row(
    records: Sequence[TrialRecord], winner: TrialRecord | None, finals: Sequence[TrialRecord]
) -> Row:
    search = [record for record in records if record.stage == "search"]
    measured = finals or [winner] if winner and winner.test else finals
    return Row(
        name=records[0].condition,
        method=records[0].method,
        metrics=_spreads([{**run.selected(), **run.test} for run in measured]),
        num_seeds=len(finals),
        outcomes=dict(Counter(str(r.outcome) for r in search)),
        cpu_seconds=sum(record.cpu_seconds for record in records),
        params=dict(winner.params) if winner else {},
        winner=winner.id if winner else None,
    )


def _spreads(runs: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Each metric over the runs that have it, losses left out."""
    names = dict.fromkeys(name for run in runs for name in run if not name.startswith("loss/"))
    return {name: Spread(tuple(run[name] for run in runs if name in run)) for name in names}


def _baseline(finals: Sequence[TrialRecord]) -> Row | None:
    runs = [
        {
            name.removeprefix(BATCHNORM): value
            for name, value in final.test.items()
            if name.startswith(BATCHNORM)
        }
        for final in finals
    ]
    runs = [run for run in runs if run]
    if not runs:
        return None
    return Row("no_adaptation + target BatchNorm", _spreads(runs), len(runs), {}, 0.0, {}, None)


def _regrets(
    records: Sequence[TrialRecord],
    best: Mapping[str, TrialRecord],
    standing: Mapping[str, Rank],
) -> tuple[Regret, ...]:
    search = [r for r in records if r.stage == "search" and r.evaluations]
    groups = {name: [r for r in search if r.condition == name] for name in best}
    chosen = dict(best)
    if len(best) > 1:
        everything = "all methods" if set(best) == {r.method for r in search} else "all conditions"
        groups[everything] = search
        chosen[everything] = max(best.values(), key=lambda r: standing[r.id])
    regrets = []
    for name, group in groups.items():
        scores = [
            (e.metrics["criterion/oracle"], r.id)
            for r in group
            for e in r.evaluations
            if "criterion/oracle" in e.metrics
        ]
        selected = chosen[name].selected().get("criterion/oracle")
        if scores and selected is not None:
            top, trial = max(scores)
            regrets.append(Regret(name, selected, top, trial))
    return tuple(regrets)
