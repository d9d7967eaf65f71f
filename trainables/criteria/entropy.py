"""Confidence on the target."""

import math
from typing import final

from trainables.criteria.base import Criterion
from trainables.data.evaluation import Evaluation
from trainables.nn.losses import entropy


@final
class Entropy(Criterion):
    """Negative mean entropy of target predictions (Morerio et al., ICLR 2018, arXiv:1711.10288).

    A network that calls every image the same class with certainty scores best.
    """

    def score(self, evaluation: Evaluation) -> float:
        """In ``[-ln K, 0]``."""
        return -float(entropy(evaluation.target.logits))

    def lower_bound(self, num_classes: int) -> float:
        """See :class:`Criterion`."""
        return -math.log(num_classes)
