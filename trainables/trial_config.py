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
from trainables.configuration.former_keys import (
    with_former_keys,
    with_present_keys,
)
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
    """Check the parts of an average, whose own class cannot import the table they are in."""
    for name in criteria_of(choice):
        if CRITERIA.look_up(name).reads_target_labels and name != choice.name:
            raise ValueError(f"must not average '{name}', which reads target labels, with others.")
    return choice


def criteria_of(choice: Choice[BaseConfig]) -> list[str]:
    """Return the names of the criteria that a selection depends on: one, or an average's."""
    config = choice.config
    return config.criteria if isinstance(config, RankAverage.Config) else [choice.name]


CriterionChoice = Annotated[Choice[BaseConfig], OneOf(SELECTORS), AfterValidator(_check_criterion)]
Statistics = Literal["imagenet", "subset_visda", "subset_syn"]

WEAK: Choice[AugmentationConfig] = default_choice(AUGMENTATIONS, "weak")


class NothingConfig(BaseConfig):
    """No settings."""


class CheckpointConfig(BaseConfig):
    """Initial weights from a file."""

    path: PathText
    """A checkpoint of this project or a state dictionary saved with torch."""


class PretrainingConfig(BaseConfig):
    """Supervised training of the backbone before the trial's own.

    It happens once for each distinct configuration and is shared by all trials that use it.
    """

    task: TaskChoice | None = None
    """The task whose source is trained on; the trial's own if null."""
    augmentation: AugmentationChoice = WEAK
    """Augmentation of the source images."""
    batch_size: PositiveInt = 64
    """Images of a step, over all workers."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimizer and its learning rate."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Length of pre-training and course of the learning rate."""


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
    """How the best checkpoint of a trial, and the best trial of a study, are chosen."""

    criterion: CriterionChoice = default_choice(CRITERIA, "bnm")
    """Criterion that is maximised: one, or an average of ranks such as
    ``{rank_average: {criteria: [bnm, snd]}}``. All criteria are computed and stored; this one
    decides."""
    source_accuracy_floor: float = Field(0.5, ge=0, le=1)
    """Smallest accuracy on held-out source images, as a fraction. Checkpoints below it rank below
    all others: some criteria like collapsed networks."""


class EvaluationConfig(BaseConfig):
    """When a trial is evaluated, and on how many images."""

    interval_steps: PositiveInt | None = None
    """Steps between evaluations; null evaluates once an epoch. The last step is always
    evaluated."""
    max_images: PositiveInt = 2000
    """Largest number of images of each domain that criteria see; a fixed sample of a larger
    domain."""
    batch_size: PositiveInt = 256
    """Images of a forward pass, over all workers; changes speed and memory, not results."""
    test: bool = False
    """Whether the selected checkpoint is evaluated on the task's test sets at the end. Searches
    leave this off; final runs turn it on."""


SLOT = "trial_slot"
"""Name of the Ray resource that a process takes while it waits for the workers of its trial."""


class ResourcesConfig(BaseConfig):
    """The processes, CPUs and GPUs of a trial."""

    workers: PositiveInt = 1
    """Processes that share each batch by distributed data parallelism."""
    cpus_per_worker: PositiveInt = 1
    """CPU cores of a worker, and as many torch threads."""
    gpus_per_worker: NonNegativeFloat = 0
    """GPUs of a worker; a fraction lets trials of one worker share a GPU."""
    sync_batchnorm: bool = False
    """Whether BatchNorm's statistics are over all workers instead of each worker's share; on GPUs
    only."""

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
    """The complete configuration of a trial."""

    task: TaskChoice
    """Data to train and evaluate on."""
    method: MethodChoice = default_choice(METHODS, NO_ADAPTATION)
    """Training algorithm."""
    backbone: BackboneChoice = default_choice(BACKBONES, "resnet50")
    """Feature extractor."""
    initialization: InitializationChoice = default_choice(INITIALIZATIONS, "none")
    """Initial weights of the backbone: ``none`` (random), ``imagenet``,
    ``{checkpoint: {path: …}}`` or ``{pretraining: {…}}``."""
    augmentation: AugmentationChoice = WEAK
    """Augmentation of the source images."""
    target_augmentation: AugmentationChoice | None = None
    """Augmentation of the target images; null takes that of the source."""
    normalization: Statistics = "imagenet"
    """Data set whose channel statistics images are normalised with."""
    batch_size: PositiveInt = 64
    """Images of a step from each domain, over all workers."""
    gradient_accumulation_steps: PositiveInt = 1
    """Parts in which each worker computes its share of a batch, one after another, to save memory.
    The step is that on the whole batch; so this is only for methods whose losses are means over
    samples (``supervised``, ``no_adaptation``, ``dann``) and networks without BatchNorm."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimizer and its learning rate."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Length of the training and courses of learning rate and adaptation weight."""
    selection: SelectionConfig = SelectionConfig()
    """How the best checkpoint is chosen."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """When and how the trial is evaluated."""
    resources: ResourcesConfig = ResourcesConfig()
    """Processes, CPUs and GPUs of the trial."""
    loader_workers: NonNegativeInt = 0
    """Processes of each worker that read and augment images; 0 does both in the worker itself,
    which is best for images in memory."""
    seed: int = 0
    """Seed of initial weights, order and augmentation of images, and dropout."""

    @model_validator(mode="before")
    @classmethod
    def _read_former_names(cls, values: object) -> object:
        return with_present_keys(values)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch_size % self.resources.workers:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of the "
                f"{self.resources.workers} workers that share it."
            )
        if self.batch_size // self.resources.workers % self.gradient_accumulation_steps:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of workers × "
                f"gradient_accumulation_steps, {self.resources.workers} × "
                f"{self.gradient_accumulation_steps}."
            )
        return self

    def identity(self) -> str:
        """Return a digest that is the same for equal configurations, however they were written.

        Settings go by their former names: a new name trains no other network.
        """
        text = json.dumps(with_former_keys(self.model_dump(mode="json")), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        """Return the configuration as YAML that ``python -m trainables.run --config`` reads."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def pretraining_trial(config: TrialConfig) -> TrialConfig:
    """Return the supervised trial that pre-trains the backbone of ``config``.

    It depends only on the trial's backbone, source, normalisation and seed, so that trials that
    differ in anything else share it.
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
        gradient_accumulation_steps=config.gradient_accumulation_steps,
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
    """Read the YAML file of a trial.

    Raises:
        ValueError: The file cannot be read, is not YAML or not a trial; one line for each problem.
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
