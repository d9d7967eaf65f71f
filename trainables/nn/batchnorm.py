"""Batch-normalisation statistics of another domain."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def has_batchnorm(module: nn.Module) -> bool:
    """Whether any layer keeps running batch statistics."""
    return any(isinstance(layer, _BatchNorm) for layer in module.modules())


def reestimate_batchnorm(
    module: nn.Module, predict: Callable[[Tensor], object], batches: Iterable[Tensor]
) -> None:
    """Replaces running statistics by those of given images; weights stay.

    AdaBN (Li et al., 2016, arXiv:1603.04779): with target images, the simplest adaptation.

    Args:
        module: Changed in place; left in evaluation mode.
        predict: Runs images through all of its layers that prediction uses.
        batches: Images ``(B, 3, H, W)``; each batch counts the same.
    """
    module.eval()
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average over batches
        layer.train()
    with torch.no_grad():
        for images in batches:
            predict(images)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
