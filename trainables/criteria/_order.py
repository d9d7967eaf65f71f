"""An order of samples that depends only on the samples."""

import torch
from torch import Tensor

from trainables.runtime.randomness import generator


def own_order(features: Tensor) -> Tensor:
    """Return the samples' order along a fixed random direction of feature space.

    Draws and splits in this order treat a set the same however it is sorted.

    Args:
        features: Features, shape ``(N, D)``.

    Returns:
        Indices of the samples in that order, int64, shape ``(N,)``.
    """
    direction = torch.randn(
        features.shape[1], generator=generator(0, "direction"), dtype=torch.float64
    )
    return (features.double() @ direction).argsort(stable=True)
