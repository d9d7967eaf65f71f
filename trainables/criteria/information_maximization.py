"""Confidence on the target together with diversity."""

import math
from typing import final

import torch

from trainables.criteria.base import Criterion
from trainables.evaluation import Evaluation
from trainables.losses import entropy


@final
class InformationMaximization(Criterion):
    """Entropy of the mean prediction minus mean entropy of predictions, on the target.

    Mutual information of input and prediction (Krause et al., NeurIPS 2010; as a criterion
    Musgrave et al., 2022, arXiv:2208.07360).
    """

    def score(self, evaluation: Evaluation) -> float:
        """In ``[0, ln K]``."""
        mean = evaluation.target.logits.softmax(dim=1).mean(dim=0)
        return float(torch.special.entr(mean).sum() - entropy(evaluation.target.logits))

    def lower_bound(self, num_classes: int) -> float:
        """See :class:`Criterion`; rounding may take a score of 0 a little below."""
        return -1e-3 * math.log(num_classes)
