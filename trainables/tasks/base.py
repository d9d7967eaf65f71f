"""Base class of tasks: a labelled source, an unlabelled target, and test sets."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from trainables.configuration.schema import BaseConfig
from trainables.data.geometry import Geometry
from trainables.data.images import LabelledImages, UnlabelledImages

TARGET_TEST = "target_test"
"""Name of the test set that is split off the target."""


class TaskConfig(BaseConfig):
    """Settings common to all tasks."""

    holdout: float = Field(0.1, gt=0, lt=1)
    """Share of the labelled source that is held out of training (stratified, seeded) for the
    selection criteria."""
    seed: int = 0
    """Seed of splits and of generated images, independent of the trial's seed, so that trials with
    different seeds see the same data."""


@dataclass(frozen=True)
class Domains:
    """The opened data of a task."""

    classes: tuple[str, ...]
    """Names of the classes, in the order of the labels."""
    geometry: Geometry
    """Image sizes for augmentations and evaluation."""
    source_train: LabelledImages
    """Training images of the source."""
    source_val: LabelledImages
    """Hold-out of the source, for criteria."""
    target_train: UnlabelledImages | None
    """Images that adaptation sees; ``None`` for a task without target."""
    target_val: LabelledImages | None = None
    """Images whose labels only the criterion ``oracle`` reads; ``None`` if there are none."""
    test_sets: dict[str, LabelledImages] = field(default_factory=dict)
    """Test sets by name; evaluated once, after training, if the trial is configured to."""


class Task(ABC):
    """A task, which opens its data."""

    Config = TaskConfig

    @staticmethod
    @abstractmethod
    def load(config: TaskConfig, cache: Path) -> Domains:
        """Open the data.

        Args:
            config: Settings of the task.
            cache: Existing folder, shared between trials, for data that are expensive to make.

        Raises:
            ValueError: The data are missing or wrong; the message names the file or folder, what
                was expected and the remedy.
        """
