"""Random draws and canvas coordinates, used by every part of the renderer."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.runtime.randomness import generator
from trainables.tasks.digits._factors import Limits

CANVAS_SIZE = 64
"""Side of the rendered canvas in pixels, before it is scaled down to the picture."""


@dataclass(frozen=True)
class Stream:
    """An endless sequence of pictures, independent of those with another seed or name."""

    seed: int
    name: str

    def uniform(self, purpose: str, indices: Sequence[int], count: int) -> Tensor:
        """Draw ``count`` numbers in ``[0, 1)`` for each picture, shape ``(N, count)``."""
        return torch.stack(
            [
                torch.rand(count, generator=generator(self.seed, self.name, purpose, index))
                for index in indices
            ]
        )

    def normal(self, purpose: str, indices: Sequence[int], shape: tuple[int, ...]) -> Tensor:
        """Draw standard normal numbers for each picture, shape ``(N, *shape)``."""
        return torch.stack(
            [
                torch.randn(shape, generator=generator(self.seed, self.name, purpose, index))
                for index in indices
            ]
        )


def between(limits: Limits, uniform: Tensor) -> Tensor:
    """Map numbers in ``[0, 1)`` linearly to the limits."""
    lowest, highest = limits
    return lowest + (highest - lowest) * uniform


def canvas_axes() -> tuple[Tensor, Tensor]:
    """Return each pixel's position, right and down from the centre in half sides, ``(64, 64)``."""
    centres = (torch.arange(CANVAS_SIZE) + 0.5) / CANVAS_SIZE * 2 - 1
    down, right = torch.meshgrid(centres, centres, indexing="ij")
    return right, down
