"""The front of criterion against cost: trials that no other one beats in both. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from study.config.study_config import Cost
from study.trials.ranking import rank_trials
from study.trials.records import TrialRecord


@dataclass(frozen=True)
class FrontTrial:
    """A trial on the front; its figures are of the search, on one seed."""

    trial: str
    """Its id."""
    name: str
    """The condition."""
    method: str
    criterion: float
    """At the selected checkpoint."""
    cost: float
    """Seconds of the whole trial."""
    source_accuracy: float | None
    """Accuracy on source-val at the selected checkpoint."""
    oracle: float | None
    """The oracle's figure there, which nobody without target labels can see."""
    params: dict[str, str | int | float | bool | None]
    """The searched settings."""


@dataclass(frozen=True)
class Front:
    """Trials of a study, the best by the criterion first and the cheapest last."""

    cost: Cost
    trials: tuple[FrontTrial, ...]


def pareto_front(records: Sequence[TrialRecord], cost: Cost) -> Front:
    """Complete trials of the search beside which none is better in one and no worse in the other.

    Equal trials are all on it; those that took over the figures of another one did not run and
    are left out.
    """
    objectives = {name: standing.value for name, standing in rank_trials(records).items()}
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
                    selected.get("source_val/accuracy"),
                    selected.get("criterion/oracle"),
                    dict(record.params),
                )
            )
    return Front(cost, tuple(sorted(front, key=lambda t: -t.criterion)))
