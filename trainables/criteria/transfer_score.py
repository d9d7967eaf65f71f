"""Uniform class vectors, clustered features, and confident and diverse predictions."""

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from trainables.criteria._mutual_information import mutual_information
from trainables.criteria.base import Criterion
from trainables.data.evaluation import Evaluation
from trainables.runtime.randomness import generator


def hopkins_statistic(features: Tensor, chunk_size: int = 1024) -> float:
    """Return how clustered points are: about 0.5 if uniform, towards 1 if clustered.

    This is ``sum(u) / (sum(u) + sum(w))`` (Hopkins & Skellam, Annals of Botany 1954): ``w`` are
    distances of the points to their nearest neighbours, ``u`` distances of as many uniform points
    in the bounding box to the nearest point. Deviation: all points are used, where the paper draws
    5 %, for less noise and no dependence on their order.

    Args:
        features: Features, shape ``(N, D)``, N > 1.
        chunk_size: Rows of the distance matrix that are in memory together.

    Returns:
        Statistic in ``[0, 1]``; 0 if all points are equal.
    """
    low, high = features.amin(dim=0), features.amax(dim=0)
    uniform = low + (high - low) * torch.rand(
        features.shape, generator=generator(0, "hopkins"), dtype=features.dtype
    )
    strangers = neighbours = 0.0
    for start in range(0, len(features), chunk_size):
        rows = slice(start, start + chunk_size)
        strangers += float(torch.cdist(uniform[rows], features).amin(dim=1).double().sum())
        distances = torch.cdist(features[rows], features)
        own = torch.arange(len(distances))
        distances[own, own + start] = torch.inf
        neighbours += float(distances.amin(dim=1).double().sum())
    total = strangers + neighbours
    return strangers / total if total > 0 else 0.0


def angle_deviation(class_weights: Tensor) -> float:
    """Return how far the class vectors' angles are from those of a regular simplex.

    This is the mean over pairs of classes of ``(theta - theta_0)²``, with theta the angle between
    the two class vectors, in radians, and ``theta_0 = arccos(-1 / (K - 1))``.

    Args:
        class_weights: Class vectors, shape ``(K, D)``, K > 1.
    """
    unit = F.normalize(class_weights.double())
    num_classes = len(unit)
    pairs = torch.ones(num_classes, num_classes).triu(diagonal=1) > 0
    angles = (unit @ unit.T)[pairs].clamp(-1, 1).arccos()
    return float((angles - math.acos(-1 / (num_classes - 1))).square().mean())


@final
class TransferScore(Criterion):
    """Transfer score (Yang et al., ICLR 2024, arXiv:2305.18712).

    The score is ``-U + H + M / ln K``: U is the squared deviation of the class vectors' angles
    from those of a regular simplex (squared as in the release of its authors), H the Hopkins
    statistic of target features, and M the mutual information of target images and predictions. U
    uses the last layer of a classifier, and the mean over heads if there are several (MCD).
    """

    @override
    def score(self, evaluation: Evaluation) -> float:
        """Return a score in ``[-theta_0², 2]``."""
        target = evaluation.target
        information = mutual_information(target.logits) / math.log(target.logits.shape[1])
        return (
            hopkins_statistic(target.features.double())
            + information
            - _unevenness(evaluation.class_weights)
        )

    @override
    def lower_bound(self, num_classes: int) -> float:
        """Return slightly less than ``-theta_0²``, because rounding may take M below 0."""
        return -(math.acos(-1 / (num_classes - 1)) ** 2) - 1e-3


def _unevenness(heads: Sequence[Tensor]) -> float:
    return sum(map(angle_deviation, heads)) / len(heads)
