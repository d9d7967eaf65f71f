"""What trials of a search are worth: by the criterion, by an average of ranks, on several tasks.

A rank is one among others, so it changes as the search goes on: a trial is told to the sampler
and to the pruner by its rank at that time, and winners are found by the ranks among all in the
end. Everything is ranked among all evaluations of the search on the same task, also of other
conditions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple, Protocol

from study.config.study_config import Joint
from study.trials.records import TrialRecord, by_task
from trainables.config import SelectionConfig
from trainables.training.report import Report
from trainables.training.selection import Metrics, average_ranks, is_average


class Rank(NamedTuple):
    """By what trials that came to a value are ordered: complete ones before stopped ones."""

    is_complete: bool
    """On all tasks."""
    value: float
    """The criterion or its rank, the mean over the tasks of a joint search."""


def ranked_report(
    report: Report, selection: SelectionConfig, own: Sequence[Metrics], among: Sequence[Metrics]
) -> Report:
    """The report of a trial of the search with its objective among all.

    Args:
        report: The trial's latest, of training.
        selection: The trial's average of ranks and its floor.
        own: Metrics of all its evaluations up to the report, this one included.
        among: Metrics of all evaluations on its task, this one included.
    """
    best = own[report.best_evaluation - 1]
    (objective,) = average_ranks(selection, [best], among)
    return replace(report, objective=objective)


class _Evaluation(Protocol):
    """What a run has told after an evaluation."""

    @property
    def evaluation(self) -> int:
        """Counted from 1."""

    @property
    def objective(self) -> float:
        """Of the best checkpoint so far."""

    @property
    def metrics(self) -> Metrics:
        """Of the evaluation itself."""


class Run(Protocol):
    """A trial on one task, under way or ended."""

    @property
    def task(self) -> str:
        """Its name."""

    @property
    def selection(self) -> SelectionConfig:
        """How checkpoints are chosen."""

    @property
    def evaluations(self) -> Sequence[_Evaluation]:
        """So far."""

    @property
    def objective_floor(self) -> float | None:
        """Below it, the source is not learned."""


def trial_score(
    runs: Sequence[Run],
    joint: Joint | None,
    evaluated: Callable[[str], Sequence[Metrics]],
    evaluation: int | None = None,
) -> float:
    """What a trial of a search is worth as of now.

    Args:
        runs: The trial on each task.
        joint: How they are put together.
        evaluated: Metrics of all evaluations of the search on a task.
        evaluation: After which one; after each run's last if ``None``.
    """
    values, leasts = [], []
    for run in runs:
        own = [e for e in run.evaluations if evaluation is None or e.evaluation <= evaluation]
        if joint == "mean_rank" and not is_average(run.selection):
            values.append(
                max(average_ranks(run.selection, [e.metrics for e in own], evaluated(run.task)))
            )
        else:  # where an average of ranks selects, it is a rank already
            values.append(own[-1].objective)
        leasts.append(_least(run, joint))
    return mean_over_tasks(values, leasts)


def _least(run: Run, joint: Joint | None) -> float:
    """What its value is not below where the source is learned."""
    if joint == "mean_rank":
        return 0.0
    return float("-inf") if run.objective_floor is None else run.objective_floor


def mean_over_tasks(values: Sequence[float], leasts: Sequence[float]) -> float:
    """What a trial is worth that is worth so much on each task.

    Where it has not learned the source of one task, the others do not make up for it: it is worth
    less than any trial that has learned all.

    Args:
        values: On each task.
        leasts: What values are not below where the task's source is learned.
    """
    if any(value < least for value, least in zip(values, leasts, strict=True)):
        values = list(map(min, values, leasts))
    return fmean(values)


def rank_trials(
    records: Sequence[TrialRecord], joint: Joint | None = None, num_tasks: int = 1
) -> dict[str, Rank]:
    """Where the trials of a search stand, by the ids of their records.

    Trials that failed, on one task or before their first evaluation, or that have not ended on
    every task, stand nowhere.

    Args:
        records: Of a study.
        joint: How its tasks are put together.
        num_tasks: How many tasks each trial has.
    """
    search = [record for record in records if record.stage == "search"]
    worth = {
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
            run.outcome != "failed" and run.id in worth for run in runs
        ):
            value = mean_over_tasks(
                [worth[run.id] for run in runs], [_least(run, joint) for run in runs]
            )
            standing = Rank(all(run.outcome == "complete" for run in runs), value)
            found.update((run.id, standing) for run in runs)
    return found


def scores(records: Sequence[TrialRecord], by_rank: bool = False) -> dict[str, float]:
    """What each of these trials on one task is worth beside the others, by its id.

    Args:
        records: The trials'.
        by_rank: Rank them also where one criterion selects, which otherwise is their worth.
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
    records: Sequence[TrialRecord], standing: Mapping[str, Rank] | None = None
) -> dict[str, TrialRecord]:
    """The best trial of the search of each condition.

    At equal values the earlier one wins. A condition all of whose trials failed has no winner.

    Args:
        records: Of one task.
        standing: Of the search's trials, as of :func:`rank_trials`; those of a study of this one
            task if ``None``.
    """
    standing = rank_trials(records) if standing is None else standing
    best: dict[str, TrialRecord] = {}
    for record in sorted(records, key=lambda r: r.id):
        if record.id in standing:
            current = best.get(record.condition)
            if current is None or standing[record.id] > standing[current.id]:
                best[record.condition] = record
    return best
