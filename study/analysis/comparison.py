"""Comparison of a study's conditions: means, spreads, regrets, gains.

Pure; :mod:`study.reporting.summary` draws it.
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
from trainables.methods import NO_ADAPTATION
from trainables.tasks.base import TARGET_TEST
from trainables.training.report import ORACLE_ACCURACY

BATCHNORM = "target_batchnorm/"
"""Prefix of metrics with BatchNorm statistics re-estimated on the target."""


@dataclass(frozen=True)
class Spread:
    """A metric over seeds."""

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
    """A condition of a study, a row of its table."""

    name: str
    metrics: dict[str, Spread]
    """Metrics of the winner's final runs, ``<test set>/accuracy``, ``source_val/accuracy`` and so
    on; fractions. Without final runs, the winner's own metrics if it was tested."""
    num_seeds: int
    """Number of complete final runs."""
    outcomes: dict[str, int]
    """Number of search trials by outcome."""
    cpu_seconds: float
    """Processor time of search and final runs, including those of earlier winners."""
    params: dict[str, str | int | float | bool | None]
    """The winner's searched values by path."""
    winner: str | None
    """The winner's id."""
    method: str = ""


@dataclass(frozen=True)
class Regret:
    """The loss of the criterion's choice against the oracle's, on the oracle's labelled images.

    Both figures come from the search, with one seed each, and are optimistic; the oracle's above
    all, because the choice was made by it.
    """

    name: str
    """A condition, ``all methods`` or ``all conditions``."""
    chosen: float
    """Oracle accuracy of the checkpoint that the criterion chose."""
    oracle: float
    """Best oracle accuracy of all checkpoints of all trials."""
    oracle_trial: str
    """The trial of that checkpoint."""

    @property
    def regret(self) -> float:
        """The difference, at least 0."""
        return self.oracle - self.chosen


@dataclass(frozen=True)
class Comparison:
    """The result of a study on one task."""

    criterion: str
    """The criterion that selected checkpoints and winners."""
    selected_by_target_labels: bool
    rows: tuple[Row, ...]
    baseline: Row | None
    """No Adaptation's final runs with the target's BatchNorm statistics."""
    regrets: tuple[Regret, ...]
    """Empty where the target has no labels."""
    agreement: Agreement | None = None
    """Agreement of the search's criteria with the oracle, or with each other."""
    gains: tuple[Gain, ...] = ()
    """Differences of final runs from No Adaptation's."""
    front: Front | None = None
    """Pareto front of criterion and cost, if the study minimises a cost."""
    joint: Joint | None = None
    """How winners were chosen over several tasks; ``None``: on this task alone."""

    @property
    def names_differ(self) -> bool:
        """Whether conditions are something other than methods."""
        return any(row.name != row.method for row in self.rows)

    def best(self, metric: str) -> Row | None:
        """Return the row with the highest mean of a metric."""
        rows = [row for row in self.rows if metric in row.metrics]
        return max(rows, key=lambda row: row.metrics[metric].mean, default=None)


def compare_tasks(records: Sequence[TrialRecord], study: StudyConfig) -> dict[str, Comparison]:
    """Summarise a study, finished or not, on each of its tasks.

    Args:
        records: The records of all ended trials.
        study: Their study.
    """
    name = study.criterion.name
    reads_target_labels = SELECTORS.look_up(name).reads_target_labels
    tasks = by_task(records)
    ranks = None
    if study.joint is not None:
        ranks = rank_trials(records, study.joint, len(study.task_names))
    if study.joint is not None or not tasks:
        tasks = {task: tasks.get(task, []) for task in study.task_names}
    return {
        task: compare(own, name, reads_target_labels, study.cost, study.joint, ranks)
        for task, own in tasks.items()
    }


def compare(
    records: Sequence[TrialRecord],
    criterion: str,
    reads_target_labels: bool,
    cost: Cost | None = None,
    joint: Joint | None = None,
    ranks: Mapping[str, Rank] | None = None,
) -> Comparison:
    """Summarise a study on one task, finished or not.

    Args:
        records: The records of all ended trials on this task.
        criterion: The name of the selecting criterion.
        reads_target_labels: Whether it is an oracle.
        cost: The cost that the study minimises as well.
        joint: How scores are combined over tasks.
        ranks: The ranks of the study's trials over all tasks; ``None``: their ranks on this one.
    """
    ranks = rank_trials(records) if ranks is None else ranks
    best = winners(records, ranks)
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
        _baseline([r for r in finals if r.condition == NO_ADAPTATION]),
        _regrets(records, best, ranks),
        agreement(records),
        gains(finals, f"{TARGET_TEST}/accuracy"),
        pareto_front(records, cost) if cost else None,
        joint,
    )


def condition_names(records: Sequence[TrialRecord]) -> list[str]:
    """Return every condition once: No Adaptation, then the others by their first trial."""
    ordered = sorted(
        records, key=lambda r: (r.condition != NO_ADAPTATION, r.stage == "final", r.id)
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
    """Collect each metric over the runs that have it, except losses."""
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
    return Row(f"{NO_ADAPTATION} + target BatchNorm", _spreads(runs), len(runs), {}, 0.0, {}, None)


def _regrets(
    records: Sequence[TrialRecord],
    best: Mapping[str, TrialRecord],
    ranks: Mapping[str, Rank],
) -> tuple[Regret, ...]:
    search = [r for r in records if r.stage == "search" and r.evaluations]
    groups = {name: [r for r in search if r.condition == name] for name in best}
    chosen = dict(best)
    if len(best) > 1:
        everything = "all methods" if set(best) == {r.method for r in search} else "all conditions"
        groups[everything] = search
        chosen[everything] = max(best.values(), key=lambda r: ranks[r.id])
    regrets = []
    for name, group in groups.items():
        scores = [
            (e.metrics[ORACLE_ACCURACY], r.id)
            for r in group
            for e in r.evaluations
            if ORACLE_ACCURACY in e.metrics
        ]
        selected = chosen[name].selected().get(ORACLE_ACCURACY)
        if scores and selected is not None:
            top, trial = max(scores)
            regrets.append(Regret(name, selected, top, trial))
    return tuple(regrets)
