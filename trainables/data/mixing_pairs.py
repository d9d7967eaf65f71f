"""Pairs of target images whose mixtures probe a classifier."""

import torch
from torch import Tensor

from trainables.runtime.randomness import generator

SHARE = 0.55
"""Of the first image in a mixture (Hu et al., NeurIPS 2023)."""
NUM_PAIRS = 128
"""Of either kind, at most: a rate is then known to about 4 points, the same 4 in every trial."""


def probing_pairs(classes: Tensor, num_pairs: int = NUM_PAIRS) -> tuple[Tensor, Tensor]:
    """Pairs within a class, and pairs across classes.

    Samples in a fixed random order are sorted by class. Within a class the partner is the next
    one, and the first one's for the last; across classes it is half the set away. Which of these
    are taken is drawn with a fixed seed.

    Args:
        classes: int64, shape ``(N,)``.
        num_pairs: Of either kind, at most.

    Returns:
        Positions of the pairs' first and second samples, each int64 and of one length.
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
