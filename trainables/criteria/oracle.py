"""Accuracy on labelled target images."""

from typing import final

from typing_extensions import override

from trainables.criteria.base import LabelReadingCriterion
from trainables.data.evaluation import OracleEvaluation, classification_metrics


@final
class Oracle(LabelReadingCriterion):
    """Target validation accuracy: the only criterion that reads target labels.

    What it chooses is an upper bound that nobody without labels can reach.
    """

    @override
    def score(self, evaluation: OracleEvaluation) -> float:
        """In ``[0, 1]``."""
        return classification_metrics(evaluation.target_val.logits, evaluation.target_val_labels)[
            "accuracy"
        ]

    @override
    def lower_bound(self, num_classes: int) -> float:
        return 0.0
