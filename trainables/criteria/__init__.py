"""Selection criteria: one file each, named in the table ``CRITERIA``.

A criterion imports ``base``, this package's private modules and the packages below: ``nn``,
``data``, ``checkpointing``, ``runtime`` and ``configuration``; never another criterion or another
table. Plugins import all they need from here: ``from trainables.criteria import Criterion,
Evaluation``.
"""

from trainables.configuration.schema import Table
from trainables.criteria.base import Criterion, LabelReadingCriterion
from trainables.criteria.bnm import BNM
from trainables.criteria.class_ami import ClassAMI
from trainables.criteria.class_confusion import ClassConfusion
from trainables.criteria.dev import DEV
from trainables.criteria.devn import DEVN
from trainables.criteria.entropy import Entropy
from trainables.criteria.information_maximization import InformationMaximization
from trainables.criteria.mixval import MixVal
from trainables.criteria.oracle import Oracle
from trainables.criteria.rank_average import RankAverage, mean_percentiles
from trainables.criteria.snd import SND
from trainables.criteria.source_validation import SourceValidation
from trainables.criteria.transfer_score import TransferScore
from trainables.data.evaluation import Evaluation, OracleEvaluation, Predictions

CRITERIA: Table[type[Criterion] | type[LabelReadingCriterion]] = Table(
    "criterion",
    Criterion,
    {
        "bnm": BNM,
        "class_ami": ClassAMI,
        "class_confusion": ClassConfusion,
        "dev": DEV,
        "devn": DEVN,
        "entropy": Entropy,
        "information_maximization": InformationMaximization,
        "mixval": MixVal,
        "oracle": Oracle,
        "snd": SND,
        "source_validation": SourceValidation,
        "transfer_score": TransferScore,
    },
)

SELECTORS: Table[type[Criterion] | type[LabelReadingCriterion] | type[RankAverage]] = Table(
    "criterion",
    Criterion,
    {
        **CRITERIA,
        "rank_average": RankAverage,
    },
)
"""Everything that can choose checkpoints and trials."""

__all__ = [
    "BNM",
    "CRITERIA",
    "DEV",
    "DEVN",
    "SELECTORS",
    "SND",
    "ClassAMI",
    "ClassConfusion",
    "Criterion",
    "Entropy",
    "Evaluation",
    "InformationMaximization",
    "LabelReadingCriterion",
    "MixVal",
    "Oracle",
    "OracleEvaluation",
    "Predictions",
    "RankAverage",
    "SourceValidation",
    "TransferScore",
    "mean_percentiles",
]
