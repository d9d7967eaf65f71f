"""Accuracy on held-out source images."""

from typing import final

from typing_extensions import override

from trainables.criteria.base import Criterion
from trainables.data.evaluation import Evaluation, classification_metrics


@final
class SourceValidation(Criterion):
    """Source validation accuracy, which ignores the target: the baseline for criteria."""

    @override
    def score(self, evaluation: Evaluation) -> float:
        """Return a score in ``[0, 1]``."""
        return classification_metrics(evaluation.source.logits, evaluation.source_labels)[
            "accuracy"
        ]

    @override
    def lower_bound(self, num_classes: int) -> float:
        return 0.0
