"""Source loss, weighted as if the images came from the target."""

from typing import final

from typing_extensions import override

from trainables.criteria._density_ratio import density_ratio
from trainables.criteria._dev_risk import LEAST_SCORE, source_losses, weighted_risk
from trainables.criteria.base import Criterion
from trainables.data.evaluation import Evaluation


@final
class DEV(Criterion):
    """Deep embedded validation, negative (You et al., ICML 2019).

    The loss L on held-out source images, weighted by the ratio of densities w of their features
    on target and source, with the control variate ``eta = -cov(wL, w) / var(w)``: ``mean(wL) +
    eta · mean(w) - eta``. Deviations: the classifier of domains is linear, with one weight decay,
    and is fitted on the hold-out by halves, because a criterion sees no training images; L is
    cross entropy, as in Musgrave et al., 2022, arXiv:2208.07360.

    An estimate without bounds: a few images with large weights can decide it.
    """

    @override
    def score(self, evaluation: Evaluation) -> float:
        """Minus a risk; its expectation is at most 0, itself it may be above."""
        weights = density_ratio(evaluation.source.features, evaluation.target.features)
        return max(-weighted_risk(weights, source_losses(evaluation)), LEAST_SCORE)

    @override
    def lower_bound(self, num_classes: int) -> float:
        return LEAST_SCORE
