"""Batch nuclear norm of target predictions."""

from typing import final

import torch
from typing_extensions import override

from trainables.criteria.base import Criterion
from trainables.data.evaluation import Evaluation


@final
class BNM(Criterion):
    """Nuclear norm of the matrix P of target class probabilities, ``|P|_* / N``.

    Batch nuclear-norm maximisation (Cui et al., CVPR 2020, arXiv:2003.12237); as a criterion:
    Musgrave et al., 2022, arXiv:2208.07360. It is large if predictions are confident and diverse.
    """

    @override
    def score(self, evaluation: Evaluation) -> float:
        """Return a score in ``(0, 1]``, at most ``sqrt(K/N)`` for N images of K classes."""
        probabilities = evaluation.target.logits.double().softmax(dim=1)
        return float(torch.linalg.matrix_norm(probabilities, ord="nuc")) / len(probabilities)

    @override
    def lower_bound(self, num_classes: int) -> float:
        return 0.0
