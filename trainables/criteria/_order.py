"""An order of samples that depends on the samples alone."""

import torch
from torch import Tensor

from trainables.runtime.randomness import generator


def own_order(features: Tensor) -> Tensor:
    """Positions of the samples along a fixed direction of space.

    Whoever has to draw or split samples does it in this order, and so treats a set the same
    however it was sorted.

    Args:
        features: Shape ``(N, D)``.

    Returns:
        int64, shape ``(N,)``.
    """
    direction = torch.randn(
        features.shape[1], generator=generator(0, "direction"), dtype=torch.float64
    )
    return (features.double() @ direction).argsort(stable=True)
