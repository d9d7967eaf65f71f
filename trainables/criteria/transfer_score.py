"""Even class vectors, clustered features, confident and diverse predictions."""

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
    """How clustered a set of points is: about 0.5 for uniform ones, towards 1 for clusters.

    ``sum(u) / (sum(u) + sum(w))``: ``w`` are distances of the points to their nearest neighbours,
    ``u`` of as many uniform points of the bounding box to the nearest point (Hopkins & Skellam,
    Annals of Botany 1954). All points take part, where the paper draws 5 %: less noise, and no
    dependence on their order. 0 if all points are the same.

    Args:
        features: Shape ``(N, D)``, N > 1.
        chunk_size: Rows of the distance matrix that are held at once.
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
    """How far a classifier's class vectors are from being spread evenly.

    Mean over pairs of classes of ``(theta - theta_0)²``, with theta the angle of the two class
    vectors and ``theta_0 = arccos(-1 / (K - 1))``, that of a regular simplex.

    Args:
        class_weights: Shape ``(K, D)``, K > 1.
    """
    unit = F.normalize(class_weights.double())
    num_classes = len(unit)
    pairs = torch.ones(num_classes, num_classes).triu(diagonal=1) > 0
    angles = (unit @ unit.T)[pairs].clamp(-1, 1).arccos()
    return float((angles - math.acos(-1 / (num_classes - 1))).square().mean())


@final
class TransferScore(Criterion):
    """Transfer score (Yang et al., ICLR 2024, arXiv:2305.18712).

    ``-U + H + M / ln K``: U is the deviation of the class vectors' angles from even ones
    (squared, as in the paper's release), H the Hopkins statistic of target features, M the mutual
    information of target images and predictions. A classifier of several layers counts by its
    last one, several heads (MCD's) by the mean of their U.
    """

    @override
    def score(self, evaluation: Evaluation) -> float:
        """In ``[-theta_0², 2]``."""
        target = evaluation.target
        information = mutual_information(target.logits) / math.log(target.logits.shape[1])
        return (
            hopkins_statistic(target.features.double())
            + information
            - _unevenness(evaluation.class_weights)
        )

    @override
    def lower_bound(self, num_classes: int) -> float:
        """See :class:`Criterion`; rounding may take information of 0 a little below."""
        return -(math.acos(-1 / (num_classes - 1)) ** 2) - 1e-3


def _unevenness(heads: Sequence[Tensor]) -> float:
    return sum(map(angle_deviation, heads)) / len(heads)
