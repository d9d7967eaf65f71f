"""Agreement of a search's criteria with the oracle and with each other. Pure.

Every evaluation of every search trial counts, even if the trial was pruned or failed later.
Evaluations of one trial resemble each other, so their number overstates the evidence.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.trials.records import EvaluationRecord, TrialRecord
from trainables.training.report import CRITERION_PREFIX, SOURCE_ACCURACY
from trainables.training.selection import average_ranks, is_average

ORACLE = "oracle"
AVERAGE = "rank_average"


@dataclass(frozen=True)
class CriterionAgreement:
    """The agreement of one criterion."""

    name: str
    with_oracle: float | None
    """Spearman correlation with the oracle over all evaluations; ``None`` without labels, or if
    either is constant."""
    with_others: float | None
    """Mean Spearman correlation with the other criteria, without the oracle."""
    chosen: str
    """Id of the trial that the criterion would have chosen."""
    chosen_oracle: float | None
    """Oracle accuracy of that choice; ``None`` without labels."""
    regret: float | None
    """Loss of the choice against the oracle's best, in accuracy; at least 0."""


@dataclass(frozen=True)
class Agreement:
    """The agreement of all criteria of a search."""

    num_evaluations: int
    num_trials: int
    has_oracle: bool
    """Whether the target has labels for the oracle."""
    criteria: tuple[CriterionAgreement, ...]
    """The criteria by correlation with the oracle or, without labels, with each other."""
    correlations: dict[str, dict[str, float | None]]
    """Spearman correlations of every two criteria, including the oracle if there is one."""


@dataclass(frozen=True)
class _TrialEvaluation:
    """An evaluation and its trial."""

    trial: TrialRecord
    evaluation: EvaluationRecord

    @property
    def is_eligible(self) -> bool:
        """Whether the evaluation reaches the source floor."""
        floor = self.trial.selection.source_accuracy_floor
        return self.evaluation.metrics[SOURCE_ACCURACY] >= floor


def agreement(records: Sequence[TrialRecord]) -> Agreement | None:
    """Compare the criteria of a search.

    Args:
        records: The records of all ended trials.

    Returns:
        The agreement; ``None`` if fewer than two criteria were computed at every evaluation.
    """
    search = sorted((r for r in records if r.stage == "search"), key=lambda r: r.id)
    evaluations = [_TrialEvaluation(record, e) for record in search for e in record.evaluations]
    scores = _scores(evaluations)
    if len(scores.keys() - {ORACLE}) < 2:
        return None
    correlations = spearman(scores)
    oracle = scores.get(ORACLE)
    criteria = [
        _agreement_of(name, evaluations, scores, correlations) for name in scores if name != ORACLE
    ]
    criteria.sort(key=lambda c: -_known(c.with_others if oracle is None else c.with_oracle))
    return Agreement(
        len(evaluations),
        len({evaluation.trial.id for evaluation in evaluations}),
        oracle is not None,
        tuple(criteria),
        correlations,
    )


def _scores(evaluations: Sequence[_TrialEvaluation]) -> dict[str, NDArray[np.float64]]:
    """Return each criterion's value at every evaluation, and the selecting average of ranks."""
    if not evaluations:
        return {}
    metrics = [evaluation.evaluation.metrics for evaluation in evaluations]
    names = sorted(
        set.intersection(
            *({name for name in each if name.startswith(CRITERION_PREFIX)} for each in metrics)
        )
    )
    scores = {
        name.removeprefix(CRITERION_PREFIX): np.array([each[name] for each in metrics])
        for name in names
    }
    selection = evaluations[0].trial.selection
    if is_average(selection):
        scores[AVERAGE] = np.array(average_ranks(selection, metrics, metrics))
    return scores


def spearman(scores: dict[str, NDArray[np.float64]]) -> dict[str, dict[str, float | None]]:
    """Return Spearman's rank correlation of every two columns; ``None`` if one is constant."""
    # Imported here because importing pandas takes most of a second, and only this table needs it.
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
    evaluations: Sequence[_TrialEvaluation],
    scores: dict[str, NDArray[np.float64]],
    correlations: dict[str, dict[str, float | None]],
) -> CriterionAgreement:
    others = [
        value
        for other, value in correlations[name].items()
        if other not in (name, ORACLE, AVERAGE) and value is not None
    ]
    chosen = _choice(evaluations, scores[name])
    oracle = scores.get(ORACLE)
    figure = None if oracle is None else float(oracle[chosen])
    return CriterionAgreement(
        name=name,
        with_oracle=correlations[name].get(ORACLE),
        with_others=float(np.mean(others)) if others else None,
        chosen=evaluations[chosen].trial.id,
        chosen_oracle=figure,
        regret=None if oracle is None else float(oracle.max() - oracle[chosen]),
    )


def _choice(evaluations: Sequence[_TrialEvaluation], scores: NDArray[np.float64]) -> int:
    """Return the index of the evaluation that a criterion would have chosen.

    The order is that of a search's winners: evaluations above the source floor before those below;
    complete trials before pruned ones, and these before failed ones; then by score; then the
    earlier one.
    """
    order = ("failed", "pruned", "complete")
    return max(
        range(len(evaluations)),
        key=lambda i: (
            evaluations[i].is_eligible,
            order.index(evaluations[i].trial.outcome),
            scores[i],
            -i,
        ),
    )


def _known(value: float | None) -> float:
    return -2.0 if value is None else value
