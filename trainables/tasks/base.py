"""What a task is: a labelled source, an unlabelled target, and sets to measure on."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from trainables.configuration.schema import BaseConfig
from trainables.data.geometry import Geometry
from trainables.data.images import LabelledImages, UnlabelledImages

TARGET_TEST = "target_test"
"""The test set of a target that is split into parts."""


class TaskConfig(BaseConfig):
    """Settings that every task has."""

    holdout: float = Field(0.1, gt=0, lt=1)
    """Share of the labelled source that is kept from training (stratified, seeded) for the
    selection criteria."""
    seed: int = 0
    """Decides splits and, where images are generated, the images. Apart from the trial's seed, so
    that trials of several seeds see the same data."""


@dataclass(frozen=True)
class Domains:
    """The data of a task, opened."""

    classes: tuple[str, ...]
    """Names in the order of the labels."""
    geometry: Geometry
    source_train: LabelledImages
    source_val: LabelledImages
    """The source's hold-out."""
    target_train: UnlabelledImages | None
    """What adaptation sees; ``None`` for a task that has no target."""
    target_val: LabelledImages | None = None
    """Labels for the criterion named oracle, and for nothing else."""
    test_sets: dict[str, LabelledImages] = field(default_factory=dict)
    """By name; evaluated once, after training, where the trial's configuration says so."""


class Task(ABC):
    """Opens data."""

    Config = TaskConfig

    @staticmethod
    @abstractmethod
    def load(config: TaskConfig, cache: Path) -> Domains:
        """Opens the data.

        Args:
            config: The settings.
            cache: An existing folder, shared between trials, for what is costly to make.

        Raises:
            ValueError: The data are missing or not as they should be; the message says which
                file or folder, what was expected and what to do.
        """
