"""Pairs of target images, whose mixtures probe a classifier."""

import torch
from torch import Tensor

from trainables.runtime.randomness import generator

SHARE = 0.55
"""Share of the first image in a mixture (Hu et al., NeurIPS 2023)."""
NUM_PAIRS = 128
"""Maximum number of pairs of each kind; an accuracy on 128 has a standard error of about 4
points."""


def probing_pairs(classes: Tensor, num_pairs: int = NUM_PAIRS) -> tuple[Tensor, Tensor]:
    """Return pairs of samples within a class, followed by pairs across classes.

    Samples are shuffled with a fixed seed and sorted by class. Within a class each sample is
    paired with the next one, the last with the first; across classes, with the one half the set
    away.
    From these, ``num_pairs`` of each kind are drawn with a fixed seed.

    Args:
        classes: Predicted classes, int64, shape ``(N,)``.
        num_pairs: Maximum number of pairs of each kind.

    Returns:
        Positions of the pairs' first and second samples, both int64, shape ``(M,)``.
    """
    rng = generator(0, "mixtures")
    order = torch.randperm(len(classes), generator=rng)
    order = order[classes[order].argsort(stable=True)]
    ordered = classes[order]
    ends = ordered.unique_consecutive(return_counts=True)[1].cumsum(dim=0)
    successors = torch.arange(1, len(order) + 1)
    successors[ends - 1] = torch.cat([ends.new_zeros(1), ends[:-1]])
    within = successors != torch.arange(len(order))
    opposites = torch.arange(len(order)).roll(len(order) // 2)
    across = ordered != ordered[opposites]
    pairs = [
        _some(order[chosen], order[partners[chosen]], num_pairs, rng)
        for chosen, partners in ((within, successors), (across, opposites))
    ]
    return (torch.cat([first for first, _ in pairs]), torch.cat([second for _, second in pairs]))


def _some(
    first: Tensor, second: Tensor, number: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    chosen = torch.randperm(len(first), generator=rng)[:number]
    return first[chosen], second[chosen]
