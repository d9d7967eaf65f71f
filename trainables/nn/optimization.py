"""Optimizers and learning-rate schedules, common to all methods."""

import math
from collections.abc import Iterable
from typing import Any, Literal, Protocol, Self

import torch
from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from torch import nn
from torch.optim import Optimizer

from trainables.configuration.schema import BaseConfig


class OptimizerConfig(BaseConfig):
    """Settings of the optimizer."""

    algorithm: Literal["sgd", "adam", "adamw"] = "sgd"
    """Update rule: ``sgd`` (with momentum, without Nesterov), ``adam`` or ``adamw``."""
    learning_rate: PositiveFloat = 1e-4
    """Learning rate of the heads where the schedule's factor is 1."""
    backbone_lr_multiplier: NonNegativeFloat = 1.0
    """Learning rate of the backbone relative to that of the heads; the paper uses 0.1 for
    pre-trained backbones."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD, or beta 1 of Adam."""
    weight_decay: NonNegativeFloat = 1e-4
    """Weight of the L2 penalty; with ``adamw`` it is decoupled from the gradient."""
    clip_norm: PositiveFloat | None = None
    """Maximum gradient norm over all parameters of an optimizer; null: no clipping. The paper's
    supervised study uses 1."""


class ScheduleConfig(BaseConfig):
    """Length of training, and the course of learning rate and adaptation weights."""

    num_epochs: PositiveInt | None = 20
    """Length of training in epochs; an epoch is one pass over the larger domain, during which the
    smaller one repeats."""
    num_steps: PositiveInt | None = None
    """Length of training in optimisation steps, instead of ``num_epochs`` (set that to null)."""
    decay: Literal["dann", "cosine", "linear", "step", "exponential", "constant"] = "dann"
    """Decay of the learning rate. ``dann``: ``(1 + 10·e/E)^-0.75`` in epoch e of E; ``cosine`` and
    ``linear``: to 0; ``step``: × ``decay_factor`` after each of ``decay_epochs``;
    ``exponential``: × ``decay_factor`` every ``decay_interval`` steps, never below 0.01."""
    per: Literal["epoch", "step"] = "epoch"
    """When learning rate and adaptation weights change: every epoch (as in the release) or every
    step (as in the methods' own papers)."""
    warmup_steps: NonNegativeInt = 0
    """Steps of linear warm-up, from factor 0 in the first to 1 in the last; only with
    ``per: step``. The decay starts after them, except that ``decay: step`` counts all epochs."""
    decay_factor: float = Field(0.1, gt=0, le=1)
    """Factor of each decay by ``step`` or ``exponential``."""
    decay_epochs: tuple[PositiveInt, ...] = Field((10, 15), strict=False)
    """Epochs, counted from 1 as in the release, after which ``step`` decays."""
    decay_interval: PositiveInt = 1
    """Steps between the decays of ``exponential``, counted from the end of the warm-up."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.num_epochs is None) == (self.num_steps is None):
            raise ValueError("give exactly one of num_epochs and num_steps (null for the other).")
        if self.warmup_steps and self.per != "step":
            raise ValueError("warmup_steps needs per: step.")
        return self


def learning_rate_factor(
    schedule: ScheduleConfig, step: int, num_steps: int, steps_per_epoch: int
) -> float:
    """Return the learning rate of a step as a multiple of the configured one.

    Args:
        schedule: Settings of the schedule.
        step: Step, counted from 0.
        num_steps: Length of training in steps.
        steps_per_epoch: Batches of the larger domain.
    """
    warmup = schedule.warmup_steps
    if step < warmup:
        return step / (warmup - 1) if warmup > 1 else 1.0
    epoch = step // steps_per_epoch
    done = (step - warmup) / (num_steps - warmup)
    if schedule.per == "epoch":
        done = epoch / math.ceil(num_steps / steps_per_epoch)
    match schedule.decay:
        case "dann":
            return math.pow(1 + 10 * done, -0.75)
        case "cosine":
            return (1 + math.cos(math.pi * done)) / 2
        case "linear":
            return 1 - done
        case "step":
            passed = sum(epoch + 1 > boundary for boundary in schedule.decay_epochs)
            return math.pow(schedule.decay_factor, passed)
        case "exponential":
            decays = (step - warmup) // schedule.decay_interval
            return max(math.pow(schedule.decay_factor, decays), 0.01)
        case "constant":
            return 1.0


def training_progress(
    schedule: ScheduleConfig, step: int, num_steps: int, steps_per_epoch: int
) -> float:
    """Return the fraction of training completed before ``step``, in ``[0, 1)``.

    With ``per: epoch`` it is constant within an epoch, and so 0 in the first.
    """
    if schedule.per == "step":
        return step / num_steps
    return (step // steps_per_epoch) / math.ceil(num_steps / steps_per_epoch)


class MakeOptimizer(Protocol):
    """Function that builds the configured optimizer over a method's parameters."""

    def __call__(
        self,
        *,
        backbone: Iterable[nn.Parameter] = (),
        heads: Iterable[nn.Parameter] = (),
        momentum: float | None = None,
    ) -> Optimizer:
        """Build an optimizer.

        Args:
            backbone: Parameters with the learning rate of the backbone.
            heads: Parameters with the learning rate of the heads.
            momentum: Momentum in place of the configured one.
        """


def optimizer_factory(config: OptimizerConfig) -> MakeOptimizer:
    """Return the factory that a trial passes to its method."""

    def make(
        *,
        backbone: Iterable[nn.Parameter] = (),
        heads: Iterable[nn.Parameter] = (),
        momentum: float | None = None,
    ) -> Optimizer:
        rates = (config.learning_rate * config.backbone_lr_multiplier, config.learning_rate)
        groups = [
            {"params": list(parameters), "lr": rate, "initial_lr": rate}
            for parameters, rate in zip((backbone, heads), rates, strict=True)
        ]
        groups = [group for group in groups if group["params"]]
        optimizer = _algorithm(config, groups, config.momentum if momentum is None else momentum)
        if config.clip_norm is not None:
            _clip_before_each_step(optimizer, config.clip_norm)
        return optimizer

    return make


def _algorithm(
    config: OptimizerConfig, groups: list[dict[str, Any]], momentum: float
) -> Optimizer:
    if config.algorithm == "sgd":
        return torch.optim.SGD(
            groups, lr=config.learning_rate, momentum=momentum, weight_decay=config.weight_decay
        )
    adam = torch.optim.Adam if config.algorithm == "adam" else torch.optim.AdamW
    return adam(
        groups, lr=config.learning_rate, betas=(momentum, 0.999), weight_decay=config.weight_decay
    )


def _clip_before_each_step(optimizer: Optimizer, max_norm: float) -> None:
    def clip(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, max_norm)

    optimizer.register_step_pre_hook(clip)


def set_learning_rate(optimizer: Optimizer, factor: float) -> None:
    """Set the learning rate of every group to ``factor`` times the configured one."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
