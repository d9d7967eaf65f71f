"""What trials of a search are worth where the criterion is an average of ranks.

A rank is one among others, so it changes as the search goes on: a trial is told to the sampler
and to the pruner by its rank at that time, and winners are found by the ranks among all in the
end. Everything is ranked among all evaluations of the search, also of other conditions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from study.records import TrialRecord
from trainables.config import SelectionConfig
from trainables.selection import Metrics, average_ranks
from trainables.trial import Report


def ranked_report(report: Report, selection: SelectionConfig, own: Sequence[Metrics],
                  others: Iterable[Metrics]) -> Report:
    """The report of a trial of the search with its objective among all.

    Args:
        report: The trial's latest, of training.
        selection: The trial's average of ranks and its floor.
        own: Metrics of all its evaluations up to the report, this one included.
        others: Metrics of all evaluations of the other trials.
    """
    best = own[report.best_evaluation - 1]
    (objective,) = average_ranks(selection, [best], [*own, *others])
    return replace(report, objective=objective)


def objectives_of(records: Sequence[TrialRecord]) -> dict[str, float]:
    """What each trial of the search is worth, by its id; none for those without evaluation."""
    return worth_among([record for record in records if record.stage == "search"])


def worth_among(records: Sequence[TrialRecord]) -> dict[str, float]:
    """What each of these trials is worth beside the others, by its id."""
    evaluated = [record for record in records if record.objective is not None]
    if not evaluated or "rank_average" not in evaluated[0].config["selection"]["criterion"]:
        return {r.id: r.objective for r in evaluated if r.objective is not None}
    among = [e.metrics for record in evaluated for e in record.evaluations]
    selection = SelectionConfig.model_validate(evaluated[0].config["selection"])
    values = average_ranks(selection, [record.selected() for record in evaluated], among)
    return dict(zip((record.id for record in evaluated), values, strict=True))
