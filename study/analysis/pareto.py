"""The Pareto front of criterion and cost. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from study.config.study_config import Cost
from study.trials.ranking import rank_trials
from study.trials.records import TrialRecord
from trainables.training.report import ORACLE_ACCURACY, SOURCE_ACCURACY


@dataclass(frozen=True)
class FrontTrial:
    """A trial on the front; its figures come from the search, with one seed."""

    trial: str
    """The trial's id."""
    name: str
    """The condition."""
    method: str
    criterion: float
    """The criterion at the selected checkpoint."""
    cost: float
    """Seconds of the whole trial: processor or wall-clock time, as the study says."""
    source_accuracy: float | None
    """Accuracy on source-val at the selected checkpoint."""
    oracle: float | None
    """Accuracy by the oracle there; nobody without target labels can see it."""
    params: dict[str, str | int | float | bool | None]
    """The searched values by path."""


@dataclass(frozen=True)
class Front:
    """The trials on the front, from the best by the criterion to the cheapest."""

    cost: Cost
    trials: tuple[FrontTrial, ...]


def pareto_front(records: Sequence[TrialRecord], cost: Cost) -> Front:
    """Return the complete search trials that no other one dominates.

    Equal trials are all on the front. Trials that took over the figures of another one did not run
    and are left out.
    """
    objectives = {name: rank.value for name, rank in rank_trials(records).items()}
    ran = [
        r for r in records if r.id in objectives and r.outcome == "complete" and r.same_as is None
    ]
    front: list[FrontTrial] = []
    best = float("-inf")
    for record in sorted(ran, key=lambda r: (r.cost(cost), -objectives[r.id], r.id)):
        point = (objectives[record.id], record.cost(cost))
        if point[0] > best or (front and point == (front[-1].criterion, front[-1].cost)):
            best = point[0]
            selected = record.selected()
            front.append(
                FrontTrial(
                    record.id,
                    record.condition,
                    record.method,
                    *point,
                    selected.get(SOURCE_ACCURACY),
                    selected.get(ORACLE_ACCURACY),
                    dict(record.params),
                )
            )
    return Front(cost, tuple(sorted(front, key=lambda t: -t.criterion)))
