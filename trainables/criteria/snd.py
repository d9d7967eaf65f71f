"""Soft neighbourhood density of target predictions."""

from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from trainables.criteria.base import Criterion
from trainables.data.evaluation import Evaluation

_TEMPERATURE = 0.05
"""The paper's."""


def soft_neighbourhood_density(probabilities: Tensor, chunk_size: int = 1024) -> Tensor:
    """Mean entropy of every sample's distribution over its neighbours.

    With ``s_ij`` the cosine similarity of samples i and j: ``-mean_i sum_j q_ij log q_ij``, where
    ``q_i`` is the softmax of ``s_i / 0.05`` over all ``j ≠ i``.

    Args:
        probabilities: Shape ``(N, K)``, N > 1.
        chunk_size: Rows of the similarity matrix that are held at once.

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

    Saito et al., ICCV 2021, arXiv:2108.10860. Large where samples have many neighbours that are
    predicted alike. As in the paper, neighbours
    are found among class probabilities and not among features. A network that calls every image
    the same class scores best.
    """

    @override
    def score(self, evaluation: Evaluation) -> float:
        """In ``[0, ln(N - 1)]`` for N images."""
        probabilities = evaluation.target.logits.softmax(dim=1)
        return float(soft_neighbourhood_density(probabilities))

    @override
    def lower_bound(self, num_classes: int) -> float:
        return 0.0
