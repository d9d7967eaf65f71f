"""Predictions on whole sets, metrics of labelled sets, and the input of criteria."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Predictions:
    """A method's output on a whole set, in the order of the set, on the CPU."""

    logits: Tensor
    """Logits of the main classifier, shape ``(N, K)``."""
    features: Tensor
    """Pooled features of the backbone, shape ``(N, D)``."""


@dataclass(frozen=True)
class Mixtures:
    """Predictions on mixtures of pairs of target images."""

    first: Tensor
    """Position of the image with the larger share in the target sample, int64, ``(M,)``."""
    second: Tensor
    """Position of the other image, int64, ``(M,)``."""
    logits: Tensor
    """Logits of the mixtures, shape ``(M, K)``."""


@dataclass(frozen=True)
class Evaluation:
    """Everything that a selection criterion may see; it has no field for target labels."""

    source: Predictions
    """Predictions on the source's hold-out."""
    source_labels: Tensor
    """Classes of the hold-out, int64, shape ``(N,)``."""
    target: Predictions
    """Predictions on a fixed sample of the unlabelled target."""
    mixtures: Mixtures
    """Predictions on mixtures of images of that sample."""
    class_weights: tuple[Tensor, ...]
    """Weights of the main classifier's last layer, ``(K, D)``; one for each head it averages."""


@dataclass(frozen=True)
class OracleEvaluation(Evaluation):
    """An evaluation for criteria that declare ``reads_target_labels``."""

    target_val: Predictions
    target_val_labels: Tensor
    """Classes of the target's validation images, int64, shape ``(N,)``."""


def classification_metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return accuracy and mean class accuracy, both in ``[0, 1]``.

    Mean class accuracy is the mean of per-class recall over the classes present in ``labels``.
    (The release of Tang & Jia calls it "mean class precision" and counts absent classes as 0.)

    Args:
        logits: Logits, shape ``(N, K)``, N > 0.
        labels: Classes, int64, shape ``(N,)``.
    """
    counts = confusion_matrix(logits, labels).double()
    right, sizes = counts.diag(), counts.sum(dim=1)
    present = sizes > 0
    return {
        "accuracy": float(right.sum() / sizes.sum()),
        "mean_class_accuracy": float((right[present] / sizes[present]).mean()),
    }


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """Return counts of true classes (rows) and predicted classes (columns), ``(K, K)``."""
    num_classes = logits.shape[1]
    cells = labels * num_classes + logits.argmax(dim=1)
    return torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)
