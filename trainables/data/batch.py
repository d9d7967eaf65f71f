"""What a method sees of the data: a batch at each step, views of whole domains at each epoch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One worker's share of a training batch, normalised and on the device.

    There is no field for target labels.
    """

    source_images: Tensor
    """Float, shape ``(B, 3, H, W)``."""
    source_labels: Tensor
    """int64, shape ``(B,)``."""
    source_indices: Tensor
    """Positions in the source's training set, int64, shape ``(B,)``."""
    target_images: Tensor
    """Float, shape ``(B, 3, H, W)``; empty, ``(0, 3, H, W)``, for a method without target."""
    target_indices: Tensor
    """Positions in the target's training set, int64, shape ``(B,)``."""
    target_views: Tensor | None = None
    """A second, stronger augmentation of ``target_images`` for consistency terms."""


@dataclass(frozen=True)
class EpochViews:
    """Both domains whole, in evaluation order and without augmentation, at the start of an epoch.

    Each call walks the domain once, in batches.
    """

    source: Callable[[], Iterator[tuple[Tensor, Tensor]]]
    """Images ``(B, 3, H, W)`` with their labels ``(B,)``."""
    target: Callable[[], Iterator[Tensor]]
    """Images ``(B, 3, H, W)``."""
