"""Clusters of features, and what is concluded from them, as pure functions."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.nn.losses import squared_distances

EPSILON = 1e-6
"""Added to counts, norms and probabilities that may be 0, as in the release of Tang & Jia."""

_KERNEL_ENTRIES = 2**26
"""Entries of the kernel matrix that are held at once: 256 MiB of float32."""


def class_sums(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Sums the features of each class; differentiable in the features.

    Args:
        features: Shape ``(N, D)``.
        labels: int64, shape ``(N,)``.
        num_classes: K.

    Returns:
        Sums, shape ``(K, D)``, and how many samples each has, shape ``(K,)``, as floats.
    """
    # A product of matrices and not index_add: that one is not deterministic on accelerators.
    members = F.one_hot(labels, num_classes).to(features.dtype)
    return members.T @ features, members.sum(dim=0)


def cluster_centres(features: Tensor, labels: Tensor, num_clusters: int) -> Tensor:
    """Means of the members, shape ``(K, D)``; an empty cluster's is the zero vector.

    Args:
        features: Shape ``(N, D)``.
        labels: int64, shape ``(N,)``.
        num_clusters: K.
    """
    sums, counts = class_sums(features, labels, num_clusters)
    return sums / (counts[:, None] + EPSILON)


def kmeans(features: Tensor, centres: Tensor, num_iterations: int) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from given centres, as the release of Tang & Jia runs it.

    Args:
        features: Shape ``(N, D)``.
        centres: Shape ``(K, D)``.
        num_iterations: At least 1.

    Returns:
        The last assignment, shape ``(N,)``, and the centres computed after it, ``(K, D)``.
    """
    for _ in range(num_iterations):
        labels = torch.cdist(features, centres).argmin(dim=1)
        centres = cluster_centres(features, labels, len(centres))
    return labels, centres


def spherical_kmeans(
    features: Tensor, centres: Tensor, num_iterations: int
) -> tuple[Tensor, Tensor]:
    """K-means whose centres add up directions, as the release of Tang & Jia runs it.

    Deviates from spherical k-means (Dhillon & Modha, Machine Learning 2001): centres are sums of
    unit vectors that are not normalised themselves, and the distances to them are Euclidean from
    the raw features.

    Args:
        features: Shape ``(N, D)``.
        centres: Shape ``(K, D)``.
        num_iterations: At least 1.

    Returns:
        The last assignment, shape ``(N,)``, and the centres computed after it, ``(K, D)``.
    """
    directions = features / (features.norm(dim=1, keepdim=True) + EPSILON)
    for _ in range(num_iterations):
        labels = torch.cdist(features, centres).argmin(dim=1)
        centres, _ = class_sums(directions, labels, len(centres))
    return labels, centres


def kernel_kmeans(
    features: Tensor,
    labels: Tensor,
    num_clusters: int,
    num_iterations: int,
    gamma: float | None = None,
) -> tuple[Tensor, Tensor]:
    """K-means in the feature space of the kernel ``exp(-gamma·|x - y|²)``.

    Dhillon et al., KDD 2004. The kernel matrix is computed a slice at a time, anew in each
    iteration: memory grows with N, time with N².

    Args:
        features: Shape ``(N, D)``.
        labels: First assignment, int64, shape ``(N,)``.
        num_clusters: K.
        num_iterations: At most so many; stops when fewer than 0.1 % of the labels change.
        gamma: ``1/D`` unless given.

    Returns:
        The last assignment, shape ``(N,)``, and its centres in the input space, ``(K, D)``.
    """
    gamma = 1 / features.shape[1] if gamma is None else gamma
    slices = features.split(max(1, _KERNEL_ENTRIES // len(features)))
    for _ in range(num_iterations):
        previous = labels
        members = F.one_hot(labels, num_clusters).to(features.dtype)
        shares = members / members.sum(dim=0).clamp(min=1)
        to_cluster = torch.cat(
            [(-gamma * torch.cdist(part, features).square()).exp() @ shares for part in slices]
        )
        within = (shares * to_cluster).sum(dim=0)
        labels = (within - 2 * to_cluster).argmin(dim=1)
        if (labels != previous).double().mean() < 0.001:
            break
    return labels, cluster_centres(features, labels, num_clusters)


def student_similarity(features: Tensor, centres: Tensor, alpha: float) -> Tensor:
    """Student's t kernel of features and centres, ``(1 + d²/alpha)^(-(alpha + 1)/2)``.

    Van der Maaten & Hinton, JMLR 2008; Xie et al., ICML 2016, arXiv:1511.06335.

    Args:
        features: Shape ``(N, D)``.
        centres: Shape ``(K, D)``.
        alpha: Degrees of freedom.

    Returns:
        Similarities in ``(0, 1]``, not normalised, shape ``(N, K)``.
    """
    return (1 + squared_distances(features, centres) / alpha).pow(-(alpha + 1) / 2)


def closeness(features: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """How close samples are to the centre of their class, ``(1 + cos) / 2``.

    The soft source selection of Tang et al., CVPR 2020, arXiv:2003.08607.

    Args:
        features: Shape ``(N, D)``.
        labels: int64, shape ``(N,)``.
        centres: Shape ``(K, D)``.

    Returns:
        Weights in ``[0, 1]``, shape ``(N,)``.
    """
    return (1 + F.cosine_similarity(features, centres[labels])) / 2


def selection_threshold(epoch: int) -> float:
    """Closeness that hard source selection asks for before discounts; grows with the epoch.

    Args:
        epoch: Counted from 0; selection starts with 1.
    """
    return 1 / (1 + math.exp(-0.5 * epoch)) - 0.01


def uncertainty_discounts(similarities: Tensor, probabilities: Tensor) -> Tensor:
    """How far each class's selection threshold is lowered for its uncertain target samples.

    In the release of Tang & Jia: by 0.1 where the mean prediction of the samples assigned to a
    class has an entropy over ``ln(K) / 10`` by both predictors, by 0 where by neither, by 0.05
    otherwise (also where a predictor assigns none).

    Args:
        similarities: Class probabilities from the kernel, shape ``(N, K)``.
        probabilities: Class probabilities from the classifier, shape ``(N, K)``.

    Returns:
        Shape ``(K,)``.
    """
    entropies = []
    for predictor in (similarities, probabilities):
        sums, counts = class_sums(predictor, predictor.argmax(dim=1), predictor.shape[1])
        mean = sums / counts[:, None]  # NaN without samples: neither over nor under the limit
        entropies.append(-(mean * (mean + EPSILON).log()).sum(dim=1))
    limit = math.log(probabilities.shape[1]) / 10
    over = torch.stack(entropies) > limit
    under = torch.stack(entropies) <= limit
    discounts = torch.full_like(entropies[0], 0.05)
    return discounts.masked_fill(over.all(dim=0), 0.1).masked_fill(under.all(dim=0), 0.0)


def lower_until_kept(weights: Tensor, threshold: float) -> float:
    """Lowers a threshold in steps of 0.05 until at least one weight reaches it.

    Args:
        weights: In ``[0, 1]``, shape ``(N,)``, N > 0.
        threshold: Where to start.
    """
    largest = float(weights.max())
    while largest < threshold:
        threshold -= 0.05
    return threshold


def select_confident(
    weights: Tensor, labels: Tensor, threshold: float, discounts: Tensor
) -> Tensor:
    """Hard source selection: samples that are close enough to the target's centre of their class.

    Every class starts from ``threshold``. (In the release of Tang & Jia a class starts where the
    one before it ended.)

    Args:
        weights: From :func:`closeness`, shape ``(N,)``.
        labels: int64, shape ``(N,)``.
        threshold: Before discounts.
        discounts: From :func:`uncertainty_discounts`, shape ``(K,)``.

    Returns:
        Bool, shape ``(N,)``; at least one sample of each class that occurs.
    """
    thresholds = torch.full_like(discounts, math.inf)
    for label in labels.unique().tolist():
        start = threshold - float(discounts[label])
        thresholds[label] = lower_until_kept(weights[labels == label], start)
    return weights >= thresholds[labels]
