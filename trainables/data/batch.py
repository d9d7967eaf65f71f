"""The data that a method sees: a batch at each step, and whole domains at each epoch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One worker's share of a training batch, normalised and on the device.

    It has no field for target labels.
    """

    source_images: Tensor
    """Images of the source, float, shape ``(B, 3, H, W)``."""
    source_labels: Tensor
    """Classes of the source images, int64, shape ``(B,)``."""
    source_indices: Tensor
    """Positions in the source's training set, int64, shape ``(B,)``."""
    target_images: Tensor
    """Images of the target, float, shape ``(B, 3, H, W)``; B is 0 for a method without target."""
    target_indices: Tensor
    """Positions in the target's training set, int64, shape ``(B,)``."""
    target_views: Tensor | None = None
    """A second, stronger augmentation of the target images, for consistency losses."""


@dataclass(frozen=True)
class EpochViews:
    """Both whole domains at the start of an epoch, in evaluation order and without augmentation.

    Each call iterates over a domain once, in batches.
    """

    source: Callable[[], Iterator[tuple[Tensor, Tensor]]]
    """Iterate over source images ``(B, 3, H, W)`` with their labels ``(B,)``."""
    target: Callable[[], Iterator[Tensor]]
    """Iterate over target images ``(B, 3, H, W)``."""
