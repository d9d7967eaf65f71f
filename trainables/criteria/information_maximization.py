"""Confidence and diversity of target predictions."""

import math
from typing import final

from typing_extensions import override

from trainables.criteria._mutual_information import mutual_information
from trainables.criteria.base import Criterion
from trainables.data.evaluation import Evaluation


@final
class InformationMaximization(Criterion):
    """Entropy of the mean prediction minus mean entropy of predictions, on the target.

    Mutual information of input and prediction (Krause et al., NeurIPS 2010; as a criterion:
    Musgrave et al., 2022, arXiv:2208.07360).
    """

    @override
    def score(self, evaluation: Evaluation) -> float:
        """Return a score in ``[0, ln K]``."""
        return mutual_information(evaluation.target.logits)

    @override
    def lower_bound(self, num_classes: int) -> float:
        """Return slightly less than 0, because rounding may take a score below it."""
        return -1e-3 * math.log(num_classes)
