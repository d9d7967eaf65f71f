"""Optimizers and learning-rate schedules, the same for every method."""

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
    """How parameters move."""

    algorithm: Literal["sgd", "adam", "adamw"] = "sgd"
    """``sgd`` (with momentum, no Nesterov), ``adam`` or ``adamw``."""
    learning_rate: PositiveFloat = 1e-4
    """Of the heads, at the schedule's factor 1."""
    backbone_lr_multiplier: NonNegativeFloat = 1.0
    """Multiplies the learning rate of the backbone; the paper uses 0.1 when it is pre-trained."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """SGD's momentum, or Adam's beta 1."""
    weight_decay: NonNegativeFloat = 1e-4
    """L2 penalty; decoupled from the gradient with ``adamw``."""
    clip_norm: PositiveFloat | None = None
    """Largest gradient norm over all parameters of an optimizer; the supervised study uses 1."""


class ScheduleConfig(BaseConfig):
    """How long training lasts and how its learning rate and adaptation weights change."""

    num_epochs: PositiveInt | None = 20
    """An epoch is one pass over the larger domain; the smaller one starts over."""
    num_steps: PositiveInt | None = None
    """Total optimisation steps, in place of ``num_epochs`` (set that to null)."""
    decay: Literal["dann", "cosine", "linear", "step", "exponential", "constant"] = "dann"
    """``dann``: ``(1 + 10·e/E)^-0.75``; ``step``: × ``decay_factor`` at each of ``decay_epochs``;
    ``exponential``: × ``decay_factor`` every ``decay_interval`` steps, never below 0.01."""
    per: Literal["epoch", "step"] = "epoch"
    """Whether learning rate and adaptation weights change once an epoch (as in the release) or
    every step (as in the methods' own papers)."""
    warmup_steps: NonNegativeInt = 0
    """Steps of linear warm-up from 0 to 1, both included; only with ``per: step``. A decay starts
    after them, but ``step`` counts epochs from the training's first."""
    decay_factor: float = Field(0.1, gt=0, le=1)
    """For ``step`` and ``exponential``."""
    decay_epochs: tuple[PositiveInt, ...] = Field((10, 15), strict=False)
    """For ``step``: counted from 1, as the release does."""
    decay_interval: PositiveInt = 1
    """For ``exponential``: steps between decays, counted from the end of the warm-up."""

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
    """The learning rate of a step, as a multiple of the configured one.

    Args:
        schedule: The shape of the curve.
        step: Counted from 0.
        num_steps: All steps of the training.
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
    """The share of the training that is done when ``step`` starts, in ``[0, 1)``.

    With ``per: epoch`` it stands still within an epoch, and is 0 during all of the first.
    """
    if schedule.per == "step":
        return step / num_steps
    return (step // steps_per_epoch) / math.ceil(num_steps / steps_per_epoch)


class MakeOptimizer(Protocol):
    """Builds the configured optimizer over a method's parameters."""

    def __call__(
        self,
        *,
        backbone: Iterable[nn.Parameter] = (),
        heads: Iterable[nn.Parameter] = (),
        momentum: float | None = None,
    ) -> Optimizer:
        """Parameters under ``backbone`` get the multiplied rate; ``momentum`` overrides it."""


def optimizer_factory(config: OptimizerConfig) -> MakeOptimizer:
    """The factory that trials hand to their method."""

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
    """Sets every group to ``factor`` times its configured rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
