"""Splits that leave no part empty."""

import torch
from torch import Tensor

from trainables.data.images import stratified_split


def split_or_complain(
    labels: Tensor, fraction: float, rng: torch.Generator, role: str, place: str
) -> tuple[Tensor, Tensor]:
    """See :func:`stratified_split`.

    Args:
        labels: Shape ``(N,)``.
        fraction: Of the second part.
        rng: Decides which samples go where.
        role: The setting that names the images, for the message.
        place: Where they lie, for the message.

    Raises:
        ValueError: A part would be empty.
    """
    first, second = stratified_split(labels, fraction, rng)
    if not len(first) or not len(second):
        raise ValueError(
            f"{role}: {place} must hold at least two images of a class, to be split in two."
        )
    return first, second
