"""Scores and ranks of a search's trials: by a criterion, by an average of ranks, on several tasks.

Ranks change as the search continues: sampler and pruner are told a trial's rank at the time, and
winners are chosen by the final ranks. Everything is ranked among all evaluations of the search on
the same task, including those of other conditions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple, Protocol

from study.config.study_config import Joint
from study.trials.records import TrialRecord, by_task
from trainables.training.report import Report
from trainables.training.selection import Metrics, average_ranks, is_average
from trainables.trial_config import SelectionConfig


class Rank(NamedTuple):
    """The sort key of trials that have a score: complete trials before pruned ones."""

    is_complete: bool
    """Whether the trial is complete on all tasks."""
    value: float
    """The criterion or its rank; in a joint search, the mean over tasks."""


def ranked_report(
    report: Report, selection: SelectionConfig, own: Sequence[Metrics], among: Sequence[Metrics]
) -> Report:
    """Replace a report's objective by its rank in the search.

    Args:
        report: The trial's latest report of training.
        selection: The trial's average of ranks and its floor.
        own: Metrics of all its evaluations up to and including this report.
        among: Metrics of all evaluations on its task, including this report.
    """
    best = own[report.best_evaluation - 1]
    (objective,) = average_ranks(selection, [best], among)
    return replace(report, objective=objective)


class _Evaluation(Protocol):
    """An evaluation of a run."""

    @property
    def evaluation(self) -> int:
        """The number of the evaluation, from 1."""

    @property
    def objective(self) -> float:
        """The criterion at the best checkpoint so far."""

    @property
    def metrics(self) -> Metrics:
        """The metrics of the evaluation itself."""


class Run(Protocol):
    """A trial on one task, live or ended."""

    @property
    def task(self) -> str:
        """The task's name."""

    @property
    def selection(self) -> SelectionConfig:
        """How checkpoints are chosen."""

    @property
    def evaluations(self) -> Sequence[_Evaluation]:
        """The evaluations so far."""

    @property
    def objective_floor(self) -> float | None:
        """An objective below it means that the source is not learned."""


def trial_score(
    runs: Sequence[Run],
    joint: Joint | None,
    evaluated: Callable[[str], Sequence[Metrics]],
    evaluation: int | None = None,
) -> float:
    """Return the present score of a search trial.

    Args:
        runs: The trial's run on each task.
        joint: How scores are combined over tasks.
        evaluated: Returns the metrics of all evaluations of the search on a task.
        evaluation: Score the trial after this evaluation; ``None``: after each run's last.
    """
    values, floors = [], []
    for run in runs:
        own = [e for e in run.evaluations if evaluation is None or e.evaluation <= evaluation]
        if joint == "mean_rank" and not is_average(run.selection):
            values.append(
                max(average_ranks(run.selection, [e.metrics for e in own], evaluated(run.task)))
            )
        else:  # where an average of ranks selects, it is a rank already
            values.append(own[-1].objective)
        floors.append(_floor(run, joint))
    return mean_over_tasks(values, floors)


def _floor(run: Run, joint: Joint | None) -> float:
    """Return the lowest score of a run that has learned its source."""
    if joint == "mean_rank":
        return 0.0
    return float("-inf") if run.objective_floor is None else run.objective_floor


def mean_over_tasks(values: Sequence[float], floors: Sequence[float]) -> float:
    """Combine a trial's per-task scores into one.

    A trial that has not learned the source of one task cannot make up for it on the others: its
    scores are capped at the floors, so that it ranks below every trial that has learned all.

    Args:
        values: The score on each task.
        floors: The lowest score of a trial that has learned the task's source.
    """
    if any(value < floor for value, floor in zip(values, floors, strict=True)):
        values = list(map(min, values, floors))
    return fmean(values)


def rank_trials(
    records: Sequence[TrialRecord], joint: Joint | None = None, num_tasks: int = 1
) -> dict[str, Rank]:
    """Rank the trials of a search; return ranks by the ids of their records.

    Trials that failed, on one task or before their first evaluation, or that have not ended on
    every task, have no rank.

    Args:
        records: All records of the study.
        joint: How scores are combined over tasks.
        num_tasks: Number of tasks of each trial.
    """
    search = [record for record in records if record.stage == "search"]
    by_id = {
        name: value
        for own in by_task(search).values()
        for name, value in scores(own, by_rank=joint == "mean_rank").items()
    }
    trials: dict[str, list[TrialRecord]] = {}
    for record in search:
        trials.setdefault(record.trial, []).append(record)
    found: dict[str, Rank] = {}
    for runs in trials.values():
        if len(runs) == num_tasks and all(
            run.outcome != "failed" and run.id in by_id for run in runs
        ):
            value = mean_over_tasks(
                [by_id[run.id] for run in runs], [_floor(run, joint) for run in runs]
            )
            rank = Rank(all(run.outcome == "complete" for run in runs), value)
            found.update((run.id, rank) for run in runs)
    return found


def scores(records: Sequence[TrialRecord], by_rank: bool = False) -> dict[str, float]:
    """Return the score of each trial on one task, by the record's id.

    Args:
        records: The records of the trials, all of one task.
        by_rank: Score by rank even if a single criterion selects.
    """
    evaluated = [record for record in records if record.objective is not None]
    if not evaluated:
        return {}
    selection = evaluated[0].selection
    if not by_rank and not is_average(selection):
        return {r.id: r.objective for r in evaluated if r.objective is not None}
    among = [e.metrics for record in evaluated for e in record.evaluations]
    values = average_ranks(selection, [record.selected() for record in evaluated], among)
    return dict(zip((record.id for record in evaluated), values, strict=True))


def winners(
    records: Sequence[TrialRecord], ranks: Mapping[str, Rank] | None = None
) -> dict[str, TrialRecord]:
    """Return the best search trial of each condition.

    The earlier one of two equal trials wins. A condition all of whose trials failed has no winner.

    Args:
        records: The records of one task.
        ranks: The ranks of the search's trials from :func:`rank_trials`; ``None``: their ranks on
            this task alone.
    """
    ranks = rank_trials(records) if ranks is None else ranks
    best: dict[str, TrialRecord] = {}
    for record in sorted(records, key=lambda r: r.id):
        if record.id in ranks:
            current = best.get(record.condition)
            if current is None or ranks[record.id] > ranks[current.id]:
                best[record.condition] = record
    return best
