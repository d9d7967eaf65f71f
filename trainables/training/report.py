"""What a trial reports after each evaluation, and the error that ends it."""

from dataclasses import dataclass
from typing import Literal

Phase = Literal["pretraining", "training", "test"]


class TrialError(RuntimeError):
    """The trial cannot go on, for a reason that trying again would not change."""


@dataclass(frozen=True)
class Report:
    """How a trial stands after an evaluation."""

    phase: Phase
    """Pre-training counts epochs and evaluations of its own."""
    evaluation: int
    """Counted from 1; grows by 1 with each report of the training phase."""
    num_evaluations: int
    epoch: float
    """Epochs done, with fractions where evaluations are more frequent."""
    num_epochs: float
    objective: float
    """The criterion at the best checkpoint so far; what a search maximises and compares. Of an
    average of ranks, the mean rank among the trial's own evaluations."""
    best_evaluation: int
    """Where that checkpoint was."""
    metrics: dict[str, float]
    """``loss/…`` means since the last report, ``criterion/…``, ``source_val/…``, and after the
    test phase ``<test set>/…``; accuracies are fractions."""
    seconds: float
    """Wall-clock time of the trial so far, interruptions left out."""
    cpu_seconds: float
    """Processor time of its worker processes so far."""
    finished: bool
    """Whether this is the trial's last report."""
    least_objective: float | None = None
    """Below it, the source of the best checkpoint is not learned; unknown in reports of earlier
    versions."""
