"""Mutual information of images and predictions."""

import torch
from torch import Tensor

from trainables.nn.losses import entropy


def mutual_information(logits: Tensor) -> float:
    """Return the entropy of the mean prediction minus the mean entropy of predictions.

    Args:
        logits: Logits, shape ``(N, K)``.

    Returns:
        Mutual information in nats, in ``[0, ln K]`` up to rounding.
    """
    mean = logits.softmax(dim=1).mean(dim=0)
    return float(torch.special.entr(mean).sum() - entropy(logits))
