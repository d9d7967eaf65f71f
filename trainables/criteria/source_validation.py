"""Accuracy on held-out source images."""

from typing import final

from trainables.criteria.base import Criterion
from trainables.data.evaluation import Evaluation, classification_metrics


@final
class SourceValidation(Criterion):
    """Source validation accuracy: blind to the target, the baseline of criteria."""

    def score(self, evaluation: Evaluation) -> float:
        """In ``[0, 1]``."""
        return classification_metrics(evaluation.source.logits, evaluation.source_labels)[
            "accuracy"
        ]

    def lower_bound(self, num_classes: int) -> float:
        """See :class:`Criterion`."""
        return 0.0
