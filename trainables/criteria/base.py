"""Base classes of selection criteria."""

from abc import ABC, abstractmethod
from typing import ClassVar

from trainables.configuration.schema import BaseConfig
from trainables.data.evaluation import Evaluation, OracleEvaluation


class CriterionConfig(BaseConfig):
    """Base class of a criterion's settings; it has none of its own."""


class Criterion(ABC):
    """A score that ranks trials and checkpoints; larger is better.

    It is computed from an :class:`Evaluation`, which has no target labels.
    """

    reads_target_labels: ClassVar[bool] = False

    Config = CriterionConfig

    @abstractmethod
    def score(self, evaluation: Evaluation) -> float:
        """Return the score of one evaluation."""

    @abstractmethod
    def lower_bound(self, num_classes: int) -> float:
        """Return a bound that no score is below; trials under the source floor rank below it.

        Args:
            num_classes: Number of classes K.
        """


class LabelReadingCriterion(ABC):
    """A criterion that reads target labels: a reference, not a valid way to select.

    Its name is shown with every result that it selected.
    """

    reads_target_labels: ClassVar[bool] = True

    Config = CriterionConfig

    @abstractmethod
    def score(self, evaluation: OracleEvaluation) -> float:
        """Return the score of one evaluation."""

    @abstractmethod
    def lower_bound(self, num_classes: int) -> float:
        """Return a bound that no score is below."""
