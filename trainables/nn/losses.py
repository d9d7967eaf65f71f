"""Losses and loss weights that several methods share, as pure functions."""

import math

from torch import Tensor
from torch.nn import functional as F


def ramp_up(progress: float, sharpness: float = 10.0) -> float:
    """Return the ramp λ from 0 towards 1, ``2 / (1 + exp(-sharpness·progress)) - 1``.

    Ganin et al., JMLR 2016, arXiv:1505.07818.

    Args:
        progress: Completed fraction of training, in ``[0, 1]``.
        sharpness: Steepness, gamma in the paper.
    """
    return 2 / (1 + math.exp(-sharpness * progress)) - 1


def entropy(logits: Tensor) -> Tensor:
    """Return the mean entropy H of the predictions, in nats.

    Args:
        logits: Logits, shape ``(B, K)``.
    """
    return -(F.softmax(logits, dim=1) * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def class_imbalance(probabilities: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Return ``bal = -mean_k log(mean_b p_bk + epsilon)``, least for a uniform mean prediction.

    The release of Tang & Jia (CVPR 2023) calls it "entropy" in MCD and "balance" elsewhere.

    Args:
        probabilities: Class probabilities of the *global* batch, shape ``(B, K)``.
        epsilon: Constant that keeps the logarithm finite for a class that is never predicted.
    """
    return -(probabilities.mean(dim=0) + epsilon).log().mean()


def kl_divergence(reference: Tensor, logits: Tensor) -> Tensor:
    """Return the mean over images of ``KL(softmax(reference) || softmax(logits))``.

    Gradients flow through both arguments; detach a reference that is a fixed target.

    Args:
        reference: Logits of the reference distribution, shape ``(B, K)``.
        logits: Logits of the other distribution, shape ``(B, K)``.
    """
    aim, prediction = F.log_softmax(reference, dim=1), F.log_softmax(logits, dim=1)
    return (aim.exp() * (aim - prediction)).sum(dim=1).mean()


def squared_distances(points: Tensor, centres: Tensor) -> Tensor:
    """Return squared Euclidean distances, whose gradient is exact at distance 0 too.

    Args:
        points: Points, shape ``(N, D)``; all N·K·D differences are in memory together.
        centres: Centres, shape ``(K, D)``.

    Returns:
        Squared distances, shape ``(N, K)``.
    """
    return (points[:, None] - centres).square().sum(dim=2)
