"""Predictions on whole sets, the metrics of labelled ones, and what a criterion may see."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Predictions:
    """A method's output on a whole set, in the set's order, on the CPU."""

    logits: Tensor
    """Shape ``(N, K)``."""
    features: Tensor
    """Shape ``(N, D)``."""


@dataclass(frozen=True)
class Mixtures:
    """Predictions on mixtures of two target images each."""

    first: Tensor
    """Position of the larger part in the target's sample, int64, shape ``(M,)``."""
    second: Tensor
    """Position of the other part, int64, shape ``(M,)``."""
    logits: Tensor
    """Shape ``(M, K)``."""


@dataclass(frozen=True)
class Evaluation:
    """All that a selection criterion may see. There is no field for target labels."""

    source: Predictions
    """On the source's hold-out."""
    source_labels: Tensor
    """int64, shape ``(N,)``."""
    target: Predictions
    """On a fixed sample of the unlabelled target."""
    mixtures: Mixtures
    """Of images of that sample."""
    class_weights: tuple[Tensor, ...]
    """The last layer of the main classifier, ``(K, D)``; one for each head that it averages."""


@dataclass(frozen=True)
class OracleEvaluation(Evaluation):
    """What only a criterion that declares ``reads_target_labels`` is given."""

    target_val: Predictions
    target_val_labels: Tensor
    """int64, shape ``(N,)``."""


def classification_metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy and mean class accuracy, as fractions.

    Mean class accuracy is the mean, over the classes that occur in ``labels``, of the share of
    their samples that is predicted right. (The release of Tang & Jia calls it "mean class
    precision" and counts absent classes as 0.)

    Args:
        logits: Shape ``(N, K)``, N > 0.
        labels: int64, shape ``(N,)``.
    """
    counts = confusion_matrix(logits, labels).double()
    right, sizes = counts.diag(), counts.sum(dim=1)
    present = sizes > 0
    return {
        "accuracy": float(right.sum() / sizes.sum()),
        "mean_class_accuracy": float((right[present] / sizes[present]).mean()),
    }


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """Counts, shape ``(K, K)``: rows are true classes, columns predicted ones."""
    num_classes = logits.shape[1]
    cells = labels * num_classes + logits.argmax(dim=1)
    return torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)
