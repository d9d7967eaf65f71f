"""The risk estimated by both variants of deep embedded validation."""

from torch import Tensor
from torch.nn import functional as F

from trainables.data.evaluation import Evaluation

LEAST_SCORE = -100.0
"""Score of a risk of 100 or more. Neither cross entropy nor weights are bounded; 100 nats per
sample mean that the density ratio could not be estimated."""


def weighted_risk(weights: Tensor, losses: Tensor) -> float:
    """Return the mean weighted loss with a control variate.

    This is ``mean(wL) + eta · mean(w) - eta`` with ``eta = -cov(wL, w) / var(w)`` (You et al.,
    ICML 2019). Density ratios have an expected mean of 1, for which it estimates the same as
    ``mean(wL)`` with less variance.

    Args:
        weights: Weights w of the samples, shape ``(N,)``, N > 1.
        losses: Losses L of the samples, shape ``(N,)``.
    """
    weighted = weights * losses
    centred = weights - weights.mean()
    variance = float(centred.square().sum())
    covariance = float((weighted * centred).sum())
    eta = -covariance / variance if variance > 0 else 0.0
    return float(weighted.mean()) + eta * float(weights.mean()) - eta


def source_losses(evaluation: Evaluation) -> Tensor:
    """Return the cross entropy of each held-out source image, float64, shape ``(N,)``."""
    return F.cross_entropy(
        evaluation.source.logits.double(), evaluation.source_labels, reduction="none"
    )
