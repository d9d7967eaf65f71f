"""The reports that a trial yields, and the error that ends it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

CRITERION_PREFIX = "criterion/"
"""Prefix of the metrics that hold a criterion's score."""
ORACLE_ACCURACY = f"{CRITERION_PREFIX}oracle"
"""The metric that only target labels give; present where the task has them."""
SOURCE_ACCURACY = "source_val/accuracy"
"""The metric that the source floor applies to."""

Phase = Literal["pretraining", "training", "test"]


class TrialError(RuntimeError):
    """The trial failed for a reason that trying again would not change."""


@dataclass(frozen=True)
class Report:
    """The state of a trial after an evaluation."""

    phase: Phase
    """Part of the trial; pre-training counts epochs and evaluations of its own."""
    evaluation: int
    """Number of the evaluation, from 1; grows by 1 with each report of the training phase."""
    num_evaluations: int
    """Evaluations in all of the phase."""
    epoch: float
    """Epochs done, with fractions where evaluations are more frequent."""
    num_epochs: float
    """Epochs in all of the phase."""
    objective: float
    """Value that a search maximises: the criterion at the best checkpoint so far or, for an
    average of ranks, the mean rank among the trial's own evaluations."""
    best_evaluation: int
    """Number of the evaluation of that checkpoint."""
    metrics: dict[str, float]
    """``loss/…`` means since the last report, ``criterion/…``, ``source_val/…``, and after the
    test phase ``<test set>/…``; accuracies are fractions."""
    seconds: float
    """Wall-clock time of the trial so far, interruptions left out."""
    cpu_seconds: float
    """Processor time of the trial's worker processes so far."""
    finished: bool
    """Whether this is the trial's last report."""
    objective_floor: float | None = None
    """Objective below which the source of the best checkpoint is not learned; unknown in reports
    of earlier versions."""

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Report":
        """Restore a report from a checkpoint, also from one that version 0.1 wrote."""
        present = dict(values)
        if "least_objective" in present:
            present["objective_floor"] = present.pop("least_objective")
        return cls(**present)
