"""Source loss, importance-weighted to the target with bounded weights."""

from typing import final

from typing_extensions import override

from trainables.criteria._density_ratio import density_ratio
from trainables.criteria._dev_risk import LEAST_SCORE, source_losses, weighted_risk
from trainables.criteria.base import Criterion
from trainables.data.evaluation import Evaluation


@final
class DEVN(Criterion):
    """Negative risk of deep embedded validation with weights divided by their maximum.

    DEV (You et al., ICML 2019) with the normalisation of Musgrave et al., 2022, arXiv:2208.07360:
    ``mean(vL) + eta · mean(v) - eta`` with ``v = w / max(w)`` and ``eta = -cov(vL, v) / var(v)``.
    Weights are bounded, but their mean is no longer 1, so that this does not estimate the loss on
    the target. Everything else is as in :class:`trainables.criteria.DEV`.
    """

    @override
    def score(self, evaluation: Evaluation) -> float:
        """Return the negative weighted loss with its control variate."""
        weights = density_ratio(evaluation.source.features, evaluation.target.features)
        risk = weighted_risk(weights / weights.max(), source_losses(evaluation))
        return max(-risk, LEAST_SCORE)

    @override
    def lower_bound(self, num_classes: int) -> float:
        return LEAST_SCORE
