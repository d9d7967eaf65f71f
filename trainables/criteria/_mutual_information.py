"""What a prediction says about its image."""

import torch
from torch import Tensor

from trainables.nn.losses import entropy


def mutual_information(logits: Tensor) -> float:
    """Entropy of the mean prediction minus mean entropy of predictions, in nats.

    Args:
        logits: Shape ``(N, K)``.

    Returns:
        In ``[0, ln K]`` but for rounding.
    """
    mean = logits.softmax(dim=1).mean(dim=0)
    return float(torch.special.entr(mean).sum() - entropy(logits))
