"""The risk that both variants of deep embedded validation estimate."""

from torch import Tensor
from torch.nn import functional as F

from trainables.data.evaluation import Evaluation

LEAST_SCORE = -100.0
"""What a risk of 100 or more counts as. Cross entropy has no bound and weights have none; a
hundred nats a sample say that the ratio of densities could not be estimated."""


def weighted_risk(weights: Tensor, losses: Tensor) -> float:
    """Mean weighted loss with a control variate.

    ``mean(wL) + eta · mean(w) - eta`` with ``eta = -cov(wL, w) / var(w)`` (You et al., ICML
    2019): where the weights' mean is 1, as a ratio of densities has it, this is the
    weighted mean with less variance.

    Args:
        weights: Shape ``(N,)``, N > 1.
        losses: Shape ``(N,)``.
    """
    weighted = weights * losses
    centred = weights - weights.mean()
    variance = float(centred.square().sum())
    covariance = float((weighted * centred).sum())
    eta = -covariance / variance if variance > 0 else 0.0
    return float(weighted.mean()) + eta * float(weights.mean()) - eta


def source_losses(evaluation: Evaluation) -> Tensor:
    """Cross entropy of each held-out source image, float64, shape ``(N,)``."""
    return F.cross_entropy(
        evaluation.source.logits.double(), evaluation.source_labels, reduction="none"
    )
