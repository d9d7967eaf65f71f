"""Several criteria that count alike."""

from collections.abc import Sequence
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from trainables.criteria.base import CriterionConfig


def mean_percentiles(
    scores: Sequence[Sequence[float]], among: Sequence[Sequence[float]]
) -> NDArray[np.float64]:
    """Ranks by each of several criteria, averaged: 0 is the lowest, 1 the highest.

    A percentile is the share of ``among`` that has a lower score, with half of those that have
    the same. Criteria are compared by order alone, so their units do not matter.

    Args:
        scores: Of what is ranked, shape ``(N, C)``: one column a criterion.
        among: Of everything that it is ranked among, shape ``(M, C)``, M > 0.

    Returns:
        Shape ``(N,)``, in ``[0, 1]``.
    """
    columns = []
    for ranked, rivals in zip(np.transpose(scores), np.sort(np.transpose(among)), strict=True):
        below, not_above = (np.searchsorted(rivals, ranked, side) for side in ("left", "right"))
        columns.append((below + not_above) / 2 / len(rivals))
    return np.mean(columns, axis=0)


@final
class RankAverage:
    """Mean of the ranks by several criteria; it has no score of a network by itself.

    Within a trial, the ranks are those among its own evaluations so far; in a search, those among
    all evaluations of the search so far. A checkpoint is kept if it ranks above the one kept
    before, when both are ranked among the evaluations up to then.
    """

    reads_target_labels: ClassVar[bool] = False

    class Config(CriterionConfig):
        """Which ones."""

        criteria: list[str] = Field(min_length=2)
        """Their names. They count alike, and must not read target labels."""

        @field_validator("criteria")
        @classmethod
        def _check(cls, value: list[str]) -> list[str]:
            twice = sorted({name for name in value if value.count(name) > 1})
            if twice:
                raise ValueError(f"must name each criterion once, got {', '.join(twice)} again.")
            return value
