"""Losses and weights that more than one method uses, as pure functions."""

import math

from torch import Tensor
from torch.nn import functional as F


def ramp_up(progress: float, sharpness: float = 10.0) -> float:
    """Weight of an adaptation term, from 0 towards 1: ``2 / (1 + exp(-sharpness·progress)) - 1``.

    Ganin et al., JMLR 2016, arXiv:1505.07818.

    Args:
        progress: Share of the training that is done, in ``[0, 1]``.
        sharpness: The paper's gamma.
    """
    return 2 / (1 + math.exp(-sharpness * progress)) - 1


def entropy(logits: Tensor) -> Tensor:
    """Mean entropy of the predictions, in nats.

    Args:
        logits: Shape ``(B, K)``.
    """
    return -(F.softmax(logits, dim=1) * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def class_imbalance(probabilities: Tensor, epsilon: float = 1e-6) -> Tensor:
    """``-mean_k log(mean_b p_bk + epsilon)``: least when the mean prediction is uniform.

    The release of Tang & Jia (CVPR 2023) calls it "entropy" in MCD and "balance" elsewhere.

    Args:
        probabilities: Class probabilities of the *global* batch, shape ``(B, K)``.
        epsilon: Keeps the logarithm of an unpredicted class finite.
    """
    return -(probabilities.mean(dim=0) + epsilon).log().mean()


def kl_divergence(reference: Tensor, logits: Tensor) -> Tensor:
    """Mean over images of ``KL(softmax(reference) || softmax(logits))``.

    The gradient flows through both; detach the reference where it is a fixed aim.

    Args:
        reference: Logits, shape ``(B, K)``.
        logits: Logits, shape ``(B, K)``.
    """
    aim, prediction = F.log_softmax(reference, dim=1), F.log_softmax(logits, dim=1)
    return (aim.exp() * (aim - prediction)).sum(dim=1).mean()


def squared_distances(points: Tensor, centres: Tensor) -> Tensor:
    """Squared Euclidean distances with an exact gradient, also where they are 0.

    Args:
        points: Shape ``(N, D)``; all N·K·D differences are held at once.
        centres: Shape ``(K, D)``.

    Returns:
        Shape ``(N, K)``.
    """
    return (points[:, None] - centres).square().sum(dim=2)
