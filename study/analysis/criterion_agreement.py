"""How far the criteria of a search agree with the oracle, and with each other. Pure.

Every evaluation of every trial of the search counts, whether the trial was stopped or failed
later. Evaluations of one trial are alike, so their number says more than there is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.trials.records import EvaluationRecord, TrialRecord
from trainables.training.selection import average_ranks, is_average

PREFIX = "criterion/"
ORACLE = "oracle"
AVERAGE = "rank_average"


@dataclass(frozen=True)
class CriterionAgreement:
    """One criterion."""

    name: str
    with_oracle: float | None
    """Spearman's correlation with the oracle over all evaluations; absent without labels, and
    where either is constant."""
    with_others: float | None
    """Mean of Spearman's correlations with the other criteria, the oracle left out."""
    chosen: str
    """Id of the trial that it would have chosen."""
    chosen_oracle: float | None
    """The oracle's figure of that choice; absent without labels."""
    regret: float | None
    """What the choice loses to the oracle's best, in accuracy; at least 0."""


@dataclass(frozen=True)
class Agreement:
    """All criteria of a search."""

    num_evaluations: int
    num_trials: int
    has_oracle: bool
    """Whether the target has labels to compare with."""
    criteria: tuple[CriterionAgreement, ...]
    """Best correlation first; without labels, best agreement with the others first."""
    correlations: dict[str, dict[str, float | None]]
    """Spearman's between every two criteria, the oracle among them where there is one."""


@dataclass(frozen=True)
class _Looked:
    """An evaluation, and the trial that it is of."""

    trial: TrialRecord
    evaluation: EvaluationRecord

    @property
    def is_eligible(self) -> bool:
        """Whether it reaches the source floor."""
        floor = self.trial.selection.source_accuracy_floor
        return self.evaluation.metrics["source_val/accuracy"] >= floor


def agreement(records: Sequence[TrialRecord]) -> Agreement | None:
    """Compares the criteria of a search.

    Args:
        records: Of all trials that have ended.

    Returns:
        ``None`` if fewer than two criteria were computed at every evaluation, or none has ended.
    """
    search = sorted((r for r in records if r.stage == "search"), key=lambda r: r.id)
    looks = [_Looked(record, e) for record in search for e in record.evaluations]
    scores = _scores(looks)
    if len(scores.keys() - {ORACLE}) < 2:
        return None
    correlations = spearman(scores)
    oracle = scores.get(ORACLE)
    criteria = [
        _agreement_of(name, looks, scores, correlations) for name in scores if name != ORACLE
    ]
    criteria.sort(key=lambda c: -_known(c.with_others if oracle is None else c.with_oracle))
    return Agreement(
        len(looks),
        len({look.trial.id for look in looks}),
        oracle is not None,
        tuple(criteria),
        correlations,
    )


def _scores(looks: Sequence[_Looked]) -> dict[str, NDArray[np.float64]]:
    """Each criterion's values, one an evaluation; an average of ranks that selects is one."""
    if not looks:
        return {}
    metrics = [look.evaluation.metrics for look in looks]
    names = sorted(
        set.intersection(*({name for name in each if name.startswith(PREFIX)} for each in metrics))
    )
    scores = {
        name.removeprefix(PREFIX): np.array([each[name] for each in metrics]) for name in names
    }
    selection = looks[0].trial.selection
    if is_average(selection):
        scores[AVERAGE] = np.array(average_ranks(selection, metrics, metrics))
    return scores


def spearman(scores: dict[str, NDArray[np.float64]]) -> dict[str, dict[str, float | None]]:
    """Return Spearman's rank correlation of every two columns; ``None`` if one is constant."""
    # Imported here since pandas takes most of a second, which only this table is worth.
    import pandas as pd

    # A constant column has no ranks to correlate, so that pandas gives NaN, also with itself.
    table = pd.DataFrame(scores).corr("spearman")
    return {
        one: {
            other: None if math.isnan(value) else float(value) for other, value in column.items()
        }
        for one, column in table.to_dict().items()
    }


def _agreement_of(
    name: str,
    looks: Sequence[_Looked],
    scores: dict[str, NDArray[np.float64]],
    correlations: dict[str, dict[str, float | None]],
) -> CriterionAgreement:
    others = [
        value
        for other, value in correlations[name].items()
        if other not in (name, ORACLE, AVERAGE) and value is not None
    ]
    chosen = _choice(looks, scores[name])
    oracle = scores.get(ORACLE)
    figure = None if oracle is None else float(oracle[chosen])
    return CriterionAgreement(
        name=name,
        with_oracle=correlations[name].get(ORACLE),
        with_others=float(np.mean(others)) if others else None,
        chosen=looks[chosen].trial.id,
        chosen_oracle=figure,
        regret=None if oracle is None else float(oracle.max() - oracle[chosen]),
    )


def _choice(looks: Sequence[_Looked], scores: NDArray[np.float64]) -> int:
    """The evaluation that a criterion would have chosen, as winners of a search are chosen.

    Evaluations above the source floor go before those below; complete trials before stopped
    ones, these before failed ones; at equal scores the earlier one.
    """
    order = ("failed", "stopped", "complete")
    return max(
        range(len(looks)),
        key=lambda i: (looks[i].is_eligible, order.index(looks[i].trial.outcome), scores[i], -i),
    )


def _known(value: float | None) -> float:
    return -2.0 if value is None else value
