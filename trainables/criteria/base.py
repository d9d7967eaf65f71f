"""What a selection criterion is."""

from abc import ABC, abstractmethod
from typing import ClassVar

from trainables.configuration.schema import BaseConfig
from trainables.data.evaluation import Evaluation, OracleEvaluation


class CriterionConfig(BaseConfig):
    """Settings that every criterion has: none."""


class Criterion(ABC):
    """A score of a trained network, larger is better, that ranks trials and checkpoints.

    It sees an :class:`Evaluation`, which has no target labels.
    """

    reads_target_labels: ClassVar[bool] = False

    Config = CriterionConfig

    @abstractmethod
    def score(self, evaluation: Evaluation) -> float:
        """The score of one evaluation."""

    @abstractmethod
    def lower_bound(self, num_classes: int) -> float:
        """A number that no score falls below; trials under the source floor rank below it."""


class LabelReadingCriterion(ABC):
    """A criterion that reads target labels: no honest selection, only a yardstick.

    Its name is shown with every figure that it chose.
    """

    reads_target_labels: ClassVar[bool] = True

    Config = CriterionConfig

    @abstractmethod
    def score(self, evaluation: OracleEvaluation) -> float:
        """The score of one evaluation."""

    @abstractmethod
    def lower_bound(self, num_classes: int) -> float:
        """A number that no score falls below."""
