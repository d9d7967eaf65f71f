"""Consistency of predictions on mixtures of target images."""

from typing import final

from torch import Tensor
from typing_extensions import override

from trainables.criteria.base import Criterion
from trainables.data.evaluation import Evaluation


@final
class MixVal(Criterion):
    """Consistency of predictions on mixtures of target images (Hu et al., NeurIPS 2023).

    Mixtures are ``0.55 a + 0.45 b``; a prediction is correct if it is the class predicted for
    ``a``. The score is the mean of two accuracies: on mixtures within a predicted class, which
    probe its density, and on mixtures across classes, which probe the decision boundary. Where
    there are no mixtures, as across classes if all images are predicted alike, the accuracy counts
    as 0. Deviation: the paper averages the ranks of the compared networks by both accuracies; a
    score of a single network can only average the accuracies.
    """

    @override
    def score(self, evaluation: Evaluation) -> float:
        """Return a score in ``[0, 1]``."""
        mixtures = evaluation.mixtures
        classes = evaluation.target.logits.argmax(dim=1)
        first, second = classes[mixtures.first], classes[mixtures.second]
        right = mixtures.logits.argmax(dim=1) == first
        return (_rate(right[first == second]) + _rate(right[first != second])) / 2

    @override
    def lower_bound(self, num_classes: int) -> float:
        return 0.0


def _rate(right: Tensor) -> float:
    return float(right.double().mean()) if len(right) else 0.0
