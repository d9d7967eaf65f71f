"""Source loss, importance-weighted to the target."""

from typing import final

from typing_extensions import override

from trainables.criteria._density_ratio import density_ratio
from trainables.criteria._dev_risk import LEAST_SCORE, source_losses, weighted_risk
from trainables.criteria.base import Criterion
from trainables.data.evaluation import Evaluation


@final
class DEV(Criterion):
    """Negative risk of deep embedded validation (You et al., ICML 2019).

    The risk is ``mean(wL) + eta · mean(w) - eta``: L are losses on held-out source images, w
    density ratios of their features between target and source, and ``eta = -cov(wL, w) / var(w)``
    is the coefficient of the control variate. Deviations: the domain classifier is linear, with
    one weight decay, and is cross-fitted on the hold-out, because a criterion sees no training
    images; L is cross entropy, as in Musgrave et al., 2022, arXiv:2208.07360.

    The estimate is unbounded: a few images with large weights can dominate it.
    """

    @override
    def score(self, evaluation: Evaluation) -> float:
        """Return the negative risk; an estimate may be above 0, its expectation is not."""
        weights = density_ratio(evaluation.source.features, evaluation.target.features)
        return max(-weighted_risk(weights, source_losses(evaluation)), LEAST_SCORE)

    @override
    def lower_bound(self, num_classes: int) -> float:
        return LEAST_SCORE
