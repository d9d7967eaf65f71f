"""Selection criteria by name. A new one is a file here and a line in the table."""

from trainables.criteria.base import Criterion, LabelReadingCriterion
from trainables.criteria.bnm import BNM
from trainables.criteria.entropy import Entropy
from trainables.criteria.information_maximization import InformationMaximization
from trainables.criteria.oracle import Oracle
from trainables.criteria.source_validation import SourceValidation

CRITERIA: dict[str, type[Criterion] | type[LabelReadingCriterion]] = {
    "bnm": BNM,
    "entropy": Entropy,
    "information_maximization": InformationMaximization,
    "oracle": Oracle,
    "source_validation": SourceValidation,
}

__all__ = [
    "BNM", "CRITERIA", "Criterion", "Entropy", "InformationMaximization",
    "LabelReadingCriterion", "Oracle", "SourceValidation",
]
