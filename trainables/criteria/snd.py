"""Soft neighbourhood density of target predictions."""

from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from trainables.criteria.base import Criterion
from trainables.data.evaluation import Evaluation

_TEMPERATURE = 0.05
"""Temperature of the softmax over neighbours, as in the paper."""


def soft_neighbourhood_density(probabilities: Tensor, chunk_size: int = 1024) -> Tensor:
    """Return the mean entropy of each sample's distribution over its neighbours.

    This is ``-mean_i sum_j q_ij log q_ij``, where ``q_i`` is the softmax of ``s_i / 0.05`` over
    all ``j ≠ i``, and ``s_ij`` the cosine similarity of samples i and j.

    Args:
        probabilities: Class probabilities, shape ``(N, K)``, N > 1.
        chunk_size: Rows of the similarity matrix that are in memory together.

    Returns:
        Scalar in ``[0, ln(N - 1)]``.
    """
    unit = F.normalize(probabilities)
    total = unit.new_zeros(())
    for start in range(0, len(unit), chunk_size):
        rows = unit[start : start + chunk_size]
        similarities = rows @ unit.T / _TEMPERATURE
        own = torch.arange(len(rows))
        similarities[own, own + start] = -torch.inf
        total = total + torch.special.entr(similarities.softmax(dim=1)).sum()
    return total / len(unit)


@final
class SND(Criterion):
    """Soft neighbourhood density of target predictions.

    Saito et al., ICCV 2021, arXiv:2108.10860. It is large if samples have many neighbours with
    similar predictions. As in the paper, neighbours are found by class probabilities, not by
    features. A network that predicts one class for every image has the highest score.
    """

    @override
    def score(self, evaluation: Evaluation) -> float:
        """Return a score in ``[0, ln(N - 1)]`` for N images."""
        probabilities = evaluation.target.logits.softmax(dim=1)
        return float(soft_neighbourhood_density(probabilities))

    @override
    def lower_bound(self, num_classes: int) -> float:
        return 0.0
