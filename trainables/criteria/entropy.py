"""Confidence of target predictions."""

import math
from typing import final

from typing_extensions import override

from trainables.criteria.base import Criterion
from trainables.data.evaluation import Evaluation
from trainables.nn.losses import entropy


@final
class Entropy(Criterion):
    """Negative mean entropy of target predictions (Morerio et al., ICLR 2018, arXiv:1711.10288).

    A network that predicts one class for every image with certainty has the highest score.
    """

    @override
    def score(self, evaluation: Evaluation) -> float:
        """Return a score in ``[-ln K, 0]``."""
        return -float(entropy(evaluation.target.logits))

    @override
    def lower_bound(self, num_classes: int) -> float:
        return -math.log(num_classes)
