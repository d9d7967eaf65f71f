"""Clustering of features, and selection of source samples by clusters, as pure functions."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.nn.losses import squared_distances

EPSILON = 1e-6
"""Constant that keeps counts, norms and probabilities off 0, as in the release of Tang & Jia."""

_KERNEL_ENTRIES = 2**26
"""Maximum number of kernel entries in memory: 256 MiB of float32."""


def class_sums(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Sum the features of each class; differentiable in the features.

    Args:
        features: Features, shape ``(N, D)``.
        labels: Classes, int64, shape ``(N,)``.
        num_classes: Number of classes K.

    Returns:
        Sums, shape ``(K, D)``, and numbers of samples as floats, shape ``(K,)``.
    """
    # A matrix product, because index_add is not deterministic on accelerators.
    members = F.one_hot(labels, num_classes).to(features.dtype)
    return members.T @ features, members.sum(dim=0)


def cluster_centres(features: Tensor, labels: Tensor, num_clusters: int) -> Tensor:
    """Return the mean of each cluster; that of an empty cluster is the zero vector.

    Args:
        features: Features, shape ``(N, D)``.
        labels: Clusters, int64, shape ``(N,)``.
        num_clusters: Number of clusters K.

    Returns:
        Means, shape ``(K, D)``.
    """
    sums, counts = class_sums(features, labels, num_clusters)
    return sums / (counts[:, None] + EPSILON)


def kmeans(features: Tensor, centres: Tensor, num_iterations: int) -> tuple[Tensor, Tensor]:
    """Run Lloyd's algorithm from given centres, as the release of Tang & Jia does.

    Args:
        features: Features, shape ``(N, D)``.
        centres: Initial centres, shape ``(K, D)``.
        num_iterations: Number of iterations, at least 1.

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
    """Run k-means whose centres are sums of unit vectors, as the release of Tang & Jia does.

    Deviation from spherical k-means (Dhillon & Modha, Machine Learning 2001): centres are not
    normalised, and distances to them are Euclidean distances of the raw features.

    Args:
        features: Features, shape ``(N, D)``.
        centres: Initial centres, shape ``(K, D)``.
        num_iterations: Number of iterations, at least 1.

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
    """Run k-means in the feature space of the kernel ``exp(-gamma·|x - y|²)``.

    Dhillon et al., KDD 2004. The kernel matrix is recomputed in slices in every iteration, so that
    memory grows with N only; time grows with N².

    Args:
        features: Features, shape ``(N, D)``.
        labels: Initial assignment, int64, shape ``(N,)``.
        num_clusters: Number of clusters K.
        num_iterations: Maximum number of iterations; an iteration that changes fewer than 0.1 % of
            the labels is the last.
        gamma: Width parameter of the kernel; ``None``: ``1/D``.

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
    """Return Student's t kernel of features and centres, ``(1 + d²/alpha)^(-(alpha + 1)/2)``.

    Van der Maaten & Hinton, JMLR 2008; Xie et al., ICML 2016, arXiv:1511.06335.

    Args:
        features: Features, shape ``(N, D)``.
        centres: Cluster centres, shape ``(K, D)``.
        alpha: Degrees of freedom.

    Returns:
        Unnormalised similarities in ``(0, 1]``, shape ``(N, K)``.
    """
    return (1 + squared_distances(features, centres) / alpha).pow(-(alpha + 1) / 2)


def closeness(features: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """Return how close samples are to the centre of their class, ``(1 + cos) / 2``.

    These are the soft source weights of Tang et al., CVPR 2020, arXiv:2003.08607.

    Args:
        features: Features, shape ``(N, D)``.
        labels: Classes, int64, shape ``(N,)``.
        centres: Class centres, shape ``(K, D)``.

    Returns:
        Weights in ``[0, 1]``, shape ``(N,)``.
    """
    return (1 + F.cosine_similarity(features, centres[labels])) / 2


def selection_threshold(epoch: int) -> float:
    """Return the closeness that hard source selection requires before discounts.

    Args:
        epoch: Epoch, counted from 0; selection starts in epoch 1.
    """
    return 1 / (1 + math.exp(-0.5 * epoch)) - 0.01


def uncertainty_discounts(similarities: Tensor, probabilities: Tensor) -> Tensor:
    """Return how far uncertain target samples lower each class's selection threshold.

    As in the release of Tang & Jia, the entropy of the mean prediction for the samples assigned to
    a class is compared with ``ln(K) / 10``. The discount is 0.1 if it is larger for both
    predictors, 0 if for neither, and otherwise 0.05 (also if a predictor assigns no sample).

    Args:
        similarities: Class probabilities from the kernel, shape ``(N, K)``.
        probabilities: Class probabilities from the classifier, shape ``(N, K)``.

    Returns:
        Discounts, shape ``(K,)``.
    """
    entropies = []
    for predictor in (similarities, probabilities):
        sums, counts = class_sums(predictor, predictor.argmax(dim=1), predictor.shape[1])
        mean = sums / counts[:, None]  # no samples give NaN, neither over nor under
        entropies.append(-(mean * (mean + EPSILON).log()).sum(dim=1))
    limit = math.log(probabilities.shape[1]) / 10
    over = torch.stack(entropies) > limit
    under = torch.stack(entropies) <= limit
    discounts = torch.full_like(entropies[0], 0.05)
    return discounts.masked_fill(over.all(dim=0), 0.1).masked_fill(under.all(dim=0), 0.0)


def lower_until_kept(weights: Tensor, threshold: float) -> float:
    """Lower a threshold in steps of 0.05 until at least one weight reaches it.

    Args:
        weights: Weights in ``[0, 1]``, shape ``(N,)``, N > 0.
        threshold: Initial threshold.
    """
    largest = float(weights.max())
    while largest < threshold:
        threshold -= 0.05
    return threshold


def select_confident(
    weights: Tensor, labels: Tensor, threshold: float, discounts: Tensor
) -> Tensor:
    """Select source samples that are close enough to the target's centre of their class.

    Every class starts from ``threshold``. (In the release of Tang & Jia a class starts from the
    lowered threshold of the previous one.)

    Args:
        weights: Result of :func:`closeness`, shape ``(N,)``.
        labels: Classes, int64, shape ``(N,)``.
        threshold: Threshold before discounts.
        discounts: Result of :func:`uncertainty_discounts`, shape ``(K,)``.

    Returns:
        Bool mask, shape ``(N,)``, with at least one sample of each class present.
    """
    thresholds = torch.full_like(discounts, math.inf)
    for label in labels.unique().tolist():
        start = threshold - float(discounts[label])
        thresholds[label] = lower_until_kept(weights[labels == label], start)
    return weights >= thresholds[labels]
