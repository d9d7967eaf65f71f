"""Re-estimation of BatchNorm statistics on another domain."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def has_batchnorm(module: nn.Module) -> bool:
    """Return whether any layer is a BatchNorm layer."""
    return any(isinstance(layer, _BatchNorm) for layer in module.modules())


def reestimate_batchnorm(
    module: nn.Module, predict: Callable[[Tensor], object], batches: Iterable[Tensor]
) -> None:
    """Replace running statistics by those of given images, without changing weights.

    With target images this is AdaBN (Li et al., 2016, arXiv:1603.04779), the simplest adaptation.

    Args:
        module: Module to change in place; it is left in evaluation mode.
        predict: Function that runs images through every layer used for prediction.
        batches: Images ``(B, 3, H, W)``; every batch has the same weight.
    """
    module.eval()
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # None: the average over all batches
        layer.train()
    with torch.no_grad():
        for images in batches:
            predict(images)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
