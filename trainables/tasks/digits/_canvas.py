"""What every part of the renderer works with: random draws and the pixels of the canvas."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.runtime.randomness import generator
from trainables.tasks.digits._factors import Limits

CANVAS_SIZE = 64
"""Side, in pixels, of what is rendered; the picture is scaled down from it."""


@dataclass(frozen=True)
class Stream:
    """An endless sequence of pictures; those of another seed or name are independent."""

    seed: int
    name: str

    def uniform(self, purpose: str, indices: Sequence[int], count: int) -> Tensor:
        """``count`` draws in ``[0, 1)`` for each picture, shape ``(N, count)``."""
        return torch.stack(
            [
                torch.rand(count, generator=generator(self.seed, self.name, purpose, index))
                for index in indices
            ]
        )

    def normal(self, purpose: str, indices: Sequence[int], shape: tuple[int, ...]) -> Tensor:
        """Draws of zero mean and unit variance, shape ``(N, *shape)``."""
        return torch.stack(
            [
                torch.randn(shape, generator=generator(self.seed, self.name, purpose, index))
                for index in indices
            ]
        )


def between(limits: Limits, uniform: Tensor) -> Tensor:
    """Stretches ``[0, 1)`` to the limits."""
    lowest, highest = limits
    return lowest + (highest - lowest) * uniform


def canvas_axes() -> tuple[Tensor, Tensor]:
    """Right and down from the centre in half sides at each pixel, shape ``(64, 64)``."""
    centres = (torch.arange(CANVAS_SIZE) + 0.5) / CANVAS_SIZE * 2 - 1
    down, right = torch.meshgrid(centres, centres, indexing="ij")
    return right, down
