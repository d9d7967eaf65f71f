"""Tasks and criteria that watch, named in configurations by their dotted names."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainables.configuration.schema import validate
from trainables.criteria import Criterion
from trainables.data.evaluation import Evaluation
from trainables.data.images import Images, LabelledImages
from trainables.tasks import Digits, Domains, Task
from trainables.tasks.base import TaskConfig
from trainables.training.report import Report
from trainables.trial_config import TrialConfig

SMALL = {"num_source": 200, "num_test": 40}
"""Settings of ``digits`` that render in a second."""


def tiny(
    task: str = "digits", settings: Mapping[str, object] | None = None, **changes: Any
) -> TrialConfig:
    """A trial of two epochs that takes tenths of a second."""
    return validate(
        TrialConfig,
        {
            "task": {task: {**SMALL, **(settings or {})}},
            "backbone": {"small_cnn": {"width": 4, "feature_dim": 16}},
            "augmentation": {"weak": {"images_per_draw": 8}},
            "batch_size": 64,
            "optimizer": {"algorithm": "adam", "learning_rate": 3e-3},
            "schedule": {"num_epochs": 2, "decay": "constant"},
            "selection": {"source_accuracy_floor": 0.0},
            "evaluation": {"max_images": 100},
            **changes,
        },
    )


def timeless(report: Report) -> Report:
    """A report without its durations, which alone may differ."""
    return replace(report, seconds=0.0, cpu_seconds=0.0)


class Relabelled(Task):
    """``digits`` whose labelled target images bear other labels, all 3."""

    Config = Digits.Config

    @staticmethod
    def load(config: TaskConfig, cache: Path) -> Domains:
        """See :class:`Task`."""
        domains = Digits.load(config, cache)
        assert domains.target_val is not None
        labels = torch.full_like(domains.target_val.labels, 3)
        return replace(domains, target_val=LabelledImages(domains.target_val.images, labels))


class Unlabelled(Task):
    """``digits`` without any label or test set of the target."""

    Config = Digits.Config

    @staticmethod
    def load(config: TaskConfig, cache: Path) -> Domains:
        """See :class:`Task`."""
        domains = Digits.load(config, cache)
        return replace(domains, target_val=None, test_sets={"IID": domains.test_sets["IID"]})


class SourceOnly(Task):
    """``digits`` without target."""

    Config = Digits.Config

    @staticmethod
    def load(config: TaskConfig, cache: Path) -> Domains:
        """See :class:`Task`."""
        return replace(Digits.load(config, cache), target_train=None, target_val=None)


class TouchedError(Exception):
    """A test set was read."""


class _Forbidden(Images):
    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        raise TouchedError


class ForbiddenTests(Task):
    """``digits`` whose test sets must not be read."""

    Config = Digits.Config

    @staticmethod
    def load(config: TaskConfig, cache: Path) -> Domains:
        """See :class:`Task`."""
        domains = Digits.load(config, cache)
        return replace(
            domains,
            test_sets={
                name: LabelledImages(_Forbidden(data.images), data.labels)
                for name, data in domains.test_sets.items()
            },
        )


class Doubt(Criterion):
    """Likes networks the better the less sure they are of source images: the first evaluation."""

    def score(self, evaluation: Evaluation) -> float:
        """In ``[-1, 0]``."""
        return -float(evaluation.source.logits.softmax(dim=1).amax(dim=1).mean())

    def lower_bound(self, num_classes: int) -> float:
        """See :class:`Criterion`."""
        return -1.0
