"""Checks before the first trial, so that no later one fails for a reason known by then."""

from collections.abc import Iterable
from pathlib import Path

import torch

from trainables.backbones import BACKBONES
from trainables.tasks import TASKS
from trainables.training.accumulation import check_accumulation
from trainables.training.domains import check_domains
from trainables.trial_config import (
    CheckpointConfig,
    PretrainingConfig,
    TrialConfig,
    pretraining_trial,
)


def check_trials(configs: Iterable[TrialConfig], cache: Path) -> None:
    """Open the data of trials and of their pre-training once each, and check them together.

    Args:
        configs: The configurations of the trials.
        cache: The folder that trials share.

    Raises:
        ValueError: Data are missing or damaged, a method or criterion does not fit them, a file of
            weights does not exist, or a backbone takes images of another size.
    """
    by_task: dict[str, list[TrialConfig]] = {}
    for config in configs:
        settings = config.initialization.config
        if (
            isinstance(settings, CheckpointConfig)
            and not Path(settings.path).expanduser().exists()
        ):
            raise ValueError(f"initialization/checkpoint/path: no such file: {settings.path}.")
        trials = [config]
        if isinstance(settings, PretrainingConfig):
            trials.append(pretraining_trial(config))
        for trial in trials:
            by_task.setdefault(repr(trial.task), []).append(trial)
    for trials in by_task.values():
        task = trials[0].task
        domains = TASKS.look_up(task.name).load(task.config, cache)
        for trial in trials:
            check_domains(trial, domains)
        distinct = {
            repr((t.backbone, t.method.name, t.gradient_accumulation_steps)): t for t in trials
        }
        for trial in distinct.values():
            _check_backbone(trial, domains.geometry.crop_size)


def _check_backbone(trial: TrialConfig, image_size: int) -> None:
    """Raise if the backbone cannot take the images, or the trial's gradient accumulation."""
    name = trial.backbone.name
    try:
        with torch.device("meta"):  # shapes only: no memory, no initialisation
            backbone = BACKBONES.look_up(name).build(trial.backbone.config, imagenet=False)
        backbone.check_image_size(image_size, image_size)
    except ValueError as error:
        raise ValueError(f"backbone '{name}': {error}") from error
    except (NotImplementedError, RuntimeError):
        return  # it cannot be built on the meta device; the trial reports what is wrong
    check_accumulation(trial, backbone)


def fetch_weights(configs: Iterable[TrialConfig]) -> None:
    """Download the ImageNet weights that trials start from, unless they are cached.

    Raises:
        ValueError: No such weights exist, or they cannot be downloaded.
    """
    backbones = {
        repr(config.backbone): config.backbone
        for config in configs
        if config.initialization.name == "imagenet"
    }
    for backbone in backbones.values():
        BACKBONES.look_up(backbone.name).build(backbone.config, imagenet=True)
