"""Confusion between classes in target predictions."""

from typing import final

import torch
from torch import Tensor
from typing_extensions import override

from trainables.criteria.base import Criterion
from trainables.data.evaluation import Evaluation

_TEMPERATURE = 2.5
"""Temperature of the softmax, as in the paper."""


def class_confusion(logits: Tensor) -> Tensor:
    """Return the loss of minimum class confusion.

    With class probabilities ``Y = softmax(logits / 2.5)``, entropies ``H_i`` and weights ``W_i =
    N · (1 + exp(-H_i)) / sum_j (1 + exp(-H_j))``, the rows of ``Yᵀ W Y`` are divided by their
    sums; the loss is the sum of the off-diagonal entries divided by K.

    Args:
        logits: Logits, shape ``(N, K)``.

    Returns:
        Scalar in ``[0, 1]``.
    """
    probabilities = (logits / _TEMPERATURE).softmax(dim=1)
    weights = 1 + (-torch.special.entr(probabilities).sum(dim=1)).exp()
    weights = weights * len(weights) / weights.sum()
    confusion = (probabilities * weights[:, None]).T @ probabilities
    tiny = torch.finfo(confusion.dtype).tiny  # a class of probability 0 gives a row of 0
    confusion = confusion / confusion.sum(dim=1, keepdim=True).clamp(min=tiny)
    return (confusion.sum() - confusion.trace()) / len(confusion)


@final
class ClassConfusion(Criterion):
    """Negative class confusion of target predictions (Jin et al., ECCV 2020, arXiv:1912.03699).

    The paper minimises it on batches; here it is computed once over the whole sample.
    """

    @override
    def score(self, evaluation: Evaluation) -> float:
        """Return a score in ``[-1, 0]``."""
        return -float(class_confusion(evaluation.target.logits.double()))

    @override
    def lower_bound(self, num_classes: int) -> float:
        """Return slightly less than -1, because rounding may take a score below it."""
        return -1.0 - 1e-9
