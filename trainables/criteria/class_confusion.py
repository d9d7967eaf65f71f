"""How little target predictions mix classes up."""

from typing import final

import torch
from torch import Tensor
from typing_extensions import override

from trainables.criteria.base import Criterion
from trainables.data.evaluation import Evaluation

_TEMPERATURE = 2.5
"""The paper's."""


def class_confusion(logits: Tensor) -> Tensor:
    """Minimum class confusion's loss.

    With class probabilities ``Y = softmax(logits / 2.5)``, entropies ``H_i`` and weights ``W_i =
    N · (1 + exp(-H_i)) / sum_j (1 + exp(-H_j))``: the rows of ``Yᵀ W Y`` are divided by their
    sums, and what is beside the diagonal is added up and divided by K.

    Args:
        logits: Shape ``(N, K)``.

    Returns:
        Scalar in ``[0, 1]``.
    """
    probabilities = (logits / _TEMPERATURE).softmax(dim=1)
    weights = 1 + (-torch.special.entr(probabilities).sum(dim=1)).exp()
    weights = weights * len(weights) / weights.sum()
    confusion = (probabilities * weights[:, None]).T @ probabilities
    tiny = torch.finfo(confusion.dtype).tiny  # a class without any probability confuses none
    confusion = confusion / confusion.sum(dim=1, keepdim=True).clamp(min=tiny)
    return (confusion.sum() - confusion.trace()) / len(confusion)


@final
class ClassConfusion(Criterion):
    """Negative class confusion of target predictions (Jin et al., ECCV 2020, arXiv:1912.03699).

    The paper trains with it on batches; here it is computed once over the whole sample.
    """

    @override
    def score(self, evaluation: Evaluation) -> float:
        """In ``[-1, 0]``."""
        return -float(class_confusion(evaluation.target.logits.double()))

    @override
    def lower_bound(self, num_classes: int) -> float:
        """See :class:`Criterion`; rounding may take a score of -1 a little below."""
        return -1.0 - 1e-9
