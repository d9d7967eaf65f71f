"""Parts of networks that methods combine: backbone, heads, frozen and reversed gradients."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm


class Backbone(nn.Module):
    """A feature extractor that returns one vector per image.

    Args:
        trunk: Module from images ``(B, 3, H, W)`` to features ``(B, feature_dim)``.
        feature_dim: Length D of a feature vector.
        image_size: Side, in pixels, of the only images that the trunk accepts; ``None``: any size.
    """

    def __init__(self, trunk: nn.Module, feature_dim: int, image_size: int | None = None) -> None:
        super().__init__()
        self.trunk = trunk
        self.feature_dim = feature_dim
        self.image_size = image_size

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to features ``(B, D)``.

        Raises:
            ValueError: The trunk does not accept images of this size.
        """
        self.check_image_size(*images.shape[-2:])
        features: Tensor = self.trunk(images)
        return features

    def check_image_size(self, height: int, width: int) -> None:
        """Raise if the trunk does not accept images of this size, in pixels.

        Raises:
            ValueError: The trunk accepts one other size only.
        """
        if self.image_size is not None and (height, width) != (self.image_size, self.image_size):
            raise ValueError(
                f"the backbone is built for images of {self.image_size} × {self.image_size} "
                f"pixels, and the task gives {height} × {width}. Set the backbone's "
                f"image_size: {height}."
            )


class Networks(nn.Module):
    """A backbone and named heads as one module, so that one wrapper covers all parameters.

    ``forward`` runs the backbone on each batch separately, so that BatchNorm sees one domain at a
    time. Heads are called as attributes, ``networks.classifier(features)``.
    """

    def __init__(self, backbone: nn.Module, **heads: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        for name, head in heads.items():
            self.add_module(name, head)

    def forward(self, *batches: Tensor) -> tuple[Tensor, ...]:
        """Map each batch of images ``(B, 3, H, W)`` to features ``(B, D)``."""
        return tuple(self.backbone(images) for images in batches)


@dataclass(frozen=True)
class Prediction:
    """A method's output for a batch of images."""

    logits: Tensor
    """Logits of the main classifier, shape ``(B, K)``."""
    features: Tensor
    """Pooled features of the backbone, shape ``(B, D)``."""
    head_logits: dict[str, Tensor] = field(default_factory=dict)
    """Logits of further classifiers to report, by name, each of shape ``(B, K)``."""


def frozen(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the module as a function whose gradients reach its input but not its weights.

    BatchNorm's batch statistics and running averages behave as in an ordinary call.
    """
    fixed = {name: p.detach() for name, p in module.named_parameters()}

    def call(inputs: Tensor) -> Tensor:
        output: Tensor = functional_call(module, fixed, (inputs,))
        return output

    return call


@contextmanager
def running_averages_kept(module: nn.Module) -> Iterator[None]:
    """Keep BatchNorm from updating its running averages inside the block.

    In training mode it still normalises by the statistics of the batch.
    """
    layers = [
        layer
        for layer in module.modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    ]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, features: Tensor, strength: float
    ) -> Tensor:
        ctx.strength = strength  # type: ignore[attr-defined]
        return features.view_as(features)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor
    ) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None  # type: ignore[attr-defined]


def reverse_gradient(features: Tensor, strength: float) -> Tensor:
    """Return the features unchanged, with a gradient multiplied by ``-strength``.

    Ganin et al., JMLR 2016, arXiv:1505.07818.

    Args:
        features: Features of any shape.
        strength: Factor of the reversed gradient, λ in the paper.
    """
    reversed_features: Tensor = _ReverseGradient.apply(features, strength)
    return reversed_features
