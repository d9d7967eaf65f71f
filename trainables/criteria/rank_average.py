"""Average of the ranks by several criteria."""

from collections.abc import Sequence
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from trainables.criteria.base import CriterionConfig


def mean_percentiles(
    scores: Sequence[Sequence[float]], among: Sequence[Sequence[float]]
) -> NDArray[np.float64]:
    """Return percentile ranks averaged over criteria; 0 is the lowest, 1 the highest.

    A percentile rank is the share of ``among`` with a lower score, plus half the share with an
    equal one. Only the order counts, so criteria may have different units.

    Args:
        scores: Scores to rank, one column per criterion, shape ``(N, C)``.
        among: Scores to rank them among, shape ``(M, C)``, M > 0.

    Returns:
        Mean percentile ranks in ``[0, 1]``, shape ``(N,)``.
    """
    columns = []
    for ranked, rivals in zip(np.transpose(scores), np.sort(np.transpose(among)), strict=True):
        below, not_above = (np.searchsorted(rivals, ranked, side) for side in ("left", "right"))
        columns.append((below + not_above) / 2 / len(rivals))
    return np.mean(columns, axis=0)


@final
class RankAverage:
    """Mean of the ranks by several criteria, which a single network has no score of.

    Within a trial, ranks are among its own evaluations so far; in a search, among all evaluations
    of the search so far. A checkpoint replaces the kept one if it ranks above it when both are
    ranked among the trial's evaluations so far.
    """

    reads_target_labels: ClassVar[bool] = False

    class Config(CriterionConfig):
        """The criteria to average."""

        criteria: list[str] = Field(min_length=2)
        """Names of at least two criteria, which have equal weight and read no target labels."""

        @field_validator("criteria")
        @classmethod
        def _check(cls, value: list[str]) -> list[str]:
            twice = sorted({name for name in value if value.count(name) > 1})
            if twice:
                raise ValueError(f"must name each criterion once, got {', '.join(twice)} again.")
            return value
