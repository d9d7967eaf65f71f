"""Splits in two with an error if a part is empty."""

import torch
from torch import Tensor

from trainables.data.images import stratified_split


def split_or_complain(
    labels: Tensor, fraction: float, rng: torch.Generator, role: str, place: str
) -> tuple[Tensor, Tensor]:
    """Split samples like :func:`stratified_split`, but raise if a part is empty.

    Args:
        labels: Classes, int64, shape ``(N,)``.
        fraction: Share of each class in the second part, in ``(0, 1)``.
        rng: Generator that draws the samples of the second part.
        role: Setting that names the images, for the message.
        place: Location of the images, for the message.

    Raises:
        ValueError: A part would be empty.
    """
    first, second = stratified_split(labels, fraction, rng)
    if not len(first) or not len(second):
        raise ValueError(
            f"{role}: {place} must hold at least two images of a class, to be split in two."
        )
    return first, second
