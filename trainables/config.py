"""The complete description of one trial: equal descriptions give equal trials."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from trainables.augmentations import AUGMENTATIONS, AugmentationConfig
from trainables.backbones import BACKBONES, BackboneConfig
from trainables.configuration.paths import PathText
from trainables.configuration.schema import (
    BaseConfig,
    Choice,
    OneOf,
    Settings,
    Table,
    default_choice,
    validate,
)
from trainables.configuration.yaml_file import load_yaml
from trainables.criteria import CRITERIA, SELECTORS, RankAverage
from trainables.methods import METHODS, NO_ADAPTATION, MethodConfig
from trainables.nn.optimization import OptimizerConfig, ScheduleConfig
from trainables.tasks import TASKS, TaskConfig

TaskChoice = Annotated[Choice[TaskConfig], OneOf(TASKS)]
MethodChoice = Annotated[Choice[MethodConfig], OneOf(METHODS)]
BackboneChoice = Annotated[Choice[BackboneConfig], OneOf(BACKBONES)]
AugmentationChoice = Annotated[Choice[AugmentationConfig], OneOf(AUGMENTATIONS)]


def _check_criterion(choice: Choice[BaseConfig]) -> Choice[BaseConfig]:
    """Looks up the parts of an average, which cannot know the table that they are in."""
    for name in criteria_of(choice):
        if CRITERIA.look_up(name).reads_target_labels and name != choice.name:
            raise ValueError(f"must not average '{name}', which reads target labels, with others.")
    return choice


def criteria_of(choice: Choice[BaseConfig]) -> list[str]:
    """Names of the criteria that a selection depends on: one, or those of an average."""
    config = choice.config
    return config.criteria if isinstance(config, RankAverage.Config) else [choice.name]


CriterionChoice = Annotated[Choice[BaseConfig], OneOf(SELECTORS), AfterValidator(_check_criterion)]
Statistics = Literal["imagenet", "subset_visda", "subset_syn"]

WEAK: Choice[AugmentationConfig] = default_choice(AUGMENTATIONS, "weak")


class NothingConfig(BaseConfig):
    """No settings."""


class CheckpointConfig(BaseConfig):
    """Weights from a file."""

    path: PathText
    """A checkpoint of this project or a state dictionary saved with torch."""


class PretrainingConfig(BaseConfig):
    """Supervised training of the backbone before the trial's own.

    It happens once for each distinct configuration and is shared by all trials that use it.
    """

    task: TaskChoice | None = None
    """The task whose source is trained on; the trial's own if null."""
    augmentation: AugmentationChoice = WEAK
    """Of the source images."""
    batch_size: PositiveInt = 64
    """Images of a step, over all workers."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How parameters move."""
    schedule: ScheduleConfig = ScheduleConfig()
    """How long, and the learning rate's course."""


INITIALIZATIONS = Table(
    "initialization",
    Settings,
    {
        "none": Settings(NothingConfig),
        "imagenet": Settings(NothingConfig),
        "checkpoint": Settings(CheckpointConfig),
        "pretraining": Settings(PretrainingConfig),
    },
)
InitializationChoice = Annotated[Choice[BaseConfig], OneOf(INITIALIZATIONS)]


class SelectionConfig(BaseConfig):
    """Which checkpoint of a trial, and which trial of a study, is best."""

    criterion: CriterionChoice = default_choice(CRITERIA, "bnm")
    """What is maximised: one criterion, or ``{rank_average: {criteria: [bnm, snd]}}``. All are
    computed and stored; this one decides."""
    source_accuracy_floor: float = Field(0.5, ge=0, le=1)
    """A checkpoint whose accuracy on held-out source images is below this ranks below all others:
    guards against collapsed networks, which some criteria like."""


class EvaluationConfig(BaseConfig):
    """When and on how much a trial is evaluated."""

    interval_steps: PositiveInt | None = None
    """Steps between evaluations; null: once an epoch. The last step is always followed by one."""
    max_images: PositiveInt = 2000
    """Images of a fixed sample of each domain that criteria see."""
    batch_size: PositiveInt = 256
    """Images of a forward pass over all workers; changes speed and memory, not results."""
    test: bool = False
    """Evaluate the selected checkpoint on the task's test sets at the end. Study searches leave
    this off; final runs turn it on."""


SLOT = "trial_slot"
"""The resource, as Ray names it, of a process that waits for a trial's workers."""


class ResourcesConfig(BaseConfig):
    """What one trial occupies."""

    workers: PositiveInt = 1
    """Processes that share the batch by distributed data parallelism."""
    cpus_per_worker: PositiveInt = 1
    """CPU cores of a worker, and its torch threads."""
    gpus_per_worker: NonNegativeFloat = 0
    """GPUs of a worker; a fraction lets one-worker trials share one."""

    sync_batchnorm: bool = False
    """Take BatchNorm's statistics over all workers and not over each one's share; on GPUs only."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sync_batchnorm and (self.workers == 1 or not self.gpus_per_worker):
            raise ValueError(
                "sync_batchnorm needs several workers with a GPU each: torch has it for no other."
            )
        if self.workers > 1 and self.gpus_per_worker not in (0, 1):
            raise ValueError("gpus_per_worker must be 0 or 1 with several workers.")
        if self.gpus_per_worker > 1 and not self.gpus_per_worker.is_integer():
            raise ValueError(
                f"gpus_per_worker must be a whole number above 1, got {self.gpus_per_worker:g}."
            )
        return self


class TrialConfig(BaseConfig):
    """One trial."""

    task: TaskChoice
    """The data."""
    method: MethodChoice = default_choice(METHODS, NO_ADAPTATION)
    """The training algorithm."""
    backbone: BackboneChoice = default_choice(BACKBONES, "resnet50")
    """The feature extractor."""
    initialization: InitializationChoice = default_choice(INITIALIZATIONS, "none")
    """Where the backbone's weights come from: ``none`` (random), ``imagenet``,
    ``{checkpoint: {path: …}}`` or ``{pretraining: {…}}``."""
    augmentation: AugmentationChoice = WEAK
    """Of the source images."""
    target_augmentation: AugmentationChoice | None = None
    """Of the target images; null: as the source."""
    normalization: Statistics = "imagenet"
    """Channel statistics that images are normalised with."""
    batch_size: PositiveInt = 64
    """Images of a step from each domain, over all workers."""
    accumulation: PositiveInt = 1
    """Parts in which each worker computes its share of a batch, one after another, where memory is
    short. Only for methods whose losses are means over samples (``supervised``,
    ``no_adaptation``, ``dann``) and networks without BatchNorm: there the step is the same."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How parameters move."""
    schedule: ScheduleConfig = ScheduleConfig()
    """How long training lasts, and its courses of learning rate and adaptation weight."""
    selection: SelectionConfig = SelectionConfig()
    """Which checkpoint is best."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """When to measure."""
    resources: ResourcesConfig = ResourcesConfig()
    """What the trial occupies."""
    loader_workers: NonNegativeInt = 0
    """Processes that read and augment images, for each worker; 0 for images in memory."""
    seed: int = 0
    """Decides initial weights, order and augmentation of images, and dropout."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch_size % self.resources.workers:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of the "
                f"{self.resources.workers} workers that share it."
            )
        if self.batch_size // self.resources.workers % self.accumulation:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of workers × "
                f"accumulation, {self.resources.workers} × {self.accumulation}."
            )
        return self

    def identity(self) -> str:
        """A digest that equal configurations share, however they were written."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        """The configuration as a file that ``python -m trainables.run --config`` reads."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def pretraining_trial(config: TrialConfig) -> TrialConfig:
    """The supervised trial that makes the backbone ``config`` starts from.

    It depends on nothing of the trial beyond backbone, source, normalisation and seed, so that
    trials that differ in anything else share it.
    """
    settings = config.initialization.config
    assert isinstance(settings, PretrainingConfig)
    return TrialConfig(
        task=settings.task or config.task,
        method=default_choice(METHODS, "supervised"),
        backbone=config.backbone,
        augmentation=settings.augmentation,
        normalization=config.normalization,
        batch_size=settings.batch_size,
        accumulation=config.accumulation,
        optimizer=settings.optimizer,
        schedule=settings.schedule,
        selection=SelectionConfig(
            criterion=default_choice(CRITERIA, "source_validation"), source_accuracy_floor=0.0
        ),
        evaluation=EvaluationConfig(batch_size=config.evaluation.batch_size),
        resources=config.resources,
        loader_workers=config.loader_workers,
        seed=config.seed,
    )


def read_trial_config(path: Path) -> TrialConfig:
    """Reads a trial's YAML file.

    Raises:
        ValueError: The file is not YAML or not a trial; one line a problem.
    """
    content = load_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold a trial's settings, `task: …` and so on.")
    try:
        return validate(TrialConfig, content)
    except ValueError as error:
        raise ValueError(
            "\n".join(f"{path}: {line}" for line in str(error).splitlines())
        ) from error
