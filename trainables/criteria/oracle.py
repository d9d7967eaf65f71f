"""Accuracy on labelled target images."""

from typing import final

from typing_extensions import override

from trainables.criteria.base import LabelReadingCriterion
from trainables.data.evaluation import OracleEvaluation, classification_metrics


@final
class Oracle(LabelReadingCriterion):
    """Target validation accuracy: the only criterion that reads target labels.

    Its choice is an upper bound for selection without target labels.
    """

    @override
    def score(self, evaluation: OracleEvaluation) -> float:
        """Return a score in ``[0, 1]``."""
        return classification_metrics(evaluation.target_val.logits, evaluation.target_val_labels)[
            "accuracy"
        ]

    @override
    def lower_bound(self, num_classes: int) -> float:
        return 0.0
