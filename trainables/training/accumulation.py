"""Gradient accumulation: one optimisation step on a batch that is computed in parts."""

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from trainables.data.batch import Batch
from trainables.methods import METHODS, Method
from trainables.nn.batchnorm import has_batchnorm
from trainables.nn.optimization import MakeOptimizer
from trainables.trial_config import TrialConfig


def check_accumulation(config: TrialConfig, backbone: nn.Module) -> None:
    """Raise unless accumulated steps equal steps on whole batches.

    Args:
        config: The trial's configuration.
        backbone: The trial's feature extractor.

    Raises:
        ValueError: The method has a loss over the batch as a whole, or the backbone has BatchNorm.
    """
    num_parts, name = config.gradient_accumulation_steps, config.method.name
    if num_parts == 1:
        return
    if not METHODS.look_up(name).supports_accumulation:
        raise ValueError(
            f"gradient_accumulation_steps {num_parts}: method '{name}' has losses of the batch as "
            "a whole, which its parts don't add up to. Use gradient_accumulation_steps: 1 and a "
            "smaller batch_size, or more workers."
        )
    if has_batchnorm(backbone):
        raise ValueError(
            f"gradient_accumulation_steps {num_parts}: the network has BatchNorm, which would "
            "normalise by parts of a batch. Use gradient_accumulation_steps: 1, or a backbone "
            "without it (vit_*, deit_*, mixer_*)."
        )


class GradientAccumulation:
    """Updates of a method on batches in parts.

    A method's ``update`` clears gradients, computes them and takes a step. To accumulate, that is
    called once for each part of a batch, and the method's optimizers, which are made here, ignore
    the calls that would break up the step.

    Args:
        num_parts: Parts of a batch; with 1, optimizers and updates are the usual ones.
    """

    def __init__(self, num_parts: int) -> None:
        self.num_parts = num_parts
        self.part = 0

    @property
    def is_first_part(self) -> bool:
        """Whether gradients of an earlier step have to be cleared."""
        return self.part == 0

    @property
    def is_last_part(self) -> bool:
        """Whether all gradients of the step are summed up."""
        return self.part == self.num_parts - 1

    def wrap(self, make_optimizer: MakeOptimizer) -> MakeOptimizer:
        """Return a factory of the same optimizers that take one step a batch."""
        if self.num_parts == 1:
            return make_optimizer

        def make(
            *,
            backbone: Iterable[nn.Parameter] = (),
            heads: Iterable[nn.Parameter] = (),
            momentum: float | None = None,
        ) -> Optimizer:
            return _AccumulatingOptimizer(
                make_optimizer(backbone=backbone, heads=heads, momentum=momentum), self
            )

        return make

    def update(self, method: Method, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Take one step of a method on a batch.

        Args:
            method: A method that :func:`check_accumulation` accepts, with wrapped optimizers.
            batch: This worker's share of the global batch.
            progress: The share of the training that is done, as in :meth:`Method.update`.

        Returns:
            The loss terms, averaged over the parts.
        """
        if self.num_parts == 1:
            return method.update(batch, progress)
        means: dict[str, Tensor] = {}
        for index, part in enumerate(_parts(batch, self.num_parts)):
            self.part = index
            for name, value in method.update(part, progress).items():
                share = value / self.num_parts
                means[name] = means[name] + share if name in means else share
        return means


class _AccumulatingOptimizer(Optimizer):
    """An optimizer that clears gradients for the first part and steps after the last.

    It wraps another one, whose parameter groups, state and hooks it shares. A subclass or a hook
    would not do: torch runs the hooks before each call of ``step``, and one of them clips.
    """

    def __init__(self, optimizer: Optimizer, accumulation: GradientAccumulation) -> None:
        # Without super().__init__, so that every attribute is the wrapped optimizer's.
        self.optimizer = optimizer
        self.accumulation = accumulation

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["optimizer"], name)

    def zero_grad(self, set_to_none: bool = True) -> None:
        if self.accumulation.is_first_part:
            self.optimizer.zero_grad(set_to_none)

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        assert closure is None, "a closure would compute the whole batch"
        if not self.accumulation.is_last_part:
            return
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad /= self.accumulation.num_parts
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state_dict)


def _parts(batch: Batch, num_parts: int) -> Iterator[Batch]:
    """Split a batch into equal parts; what a method does not read stays empty in each."""
    whole = {field.name: getattr(batch, field.name) for field in fields(batch)}
    for index in range(num_parts):
        yield replace(
            batch,
            **{
                name: value[
                    index * len(value) // num_parts : (index + 1) * len(value) // num_parts
                ]
                for name, value in whole.items()
                if value is not None
            },
        )
