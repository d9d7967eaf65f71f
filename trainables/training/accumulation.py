"""A step on a batch that is too large for the memory: in parts, by the mean of their gradients."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace

from torch import Tensor, nn
from torch.optim import Optimizer

from trainables.config import TrialConfig
from trainables.configuration.schema import look_up
from trainables.data.batch import Batch
from trainables.methods import METHODS, Method
from trainables.nn.batchnorm import has_batchnorm


def check_accumulation(config: TrialConfig, backbone: nn.Module) -> None:
    """Whether steps in parts are the steps on whole batches.

    Args:
        config: The trial's.
        backbone: Its feature extractor.

    Raises:
        ValueError: A loss is of the batch as a whole, or a layer normalises by it.
    """
    num_parts, name = config.gradient_accumulation_steps, config.method.name
    if num_parts == 1:
        return
    if not look_up(METHODS, name, "method").supports_accumulation:
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


def update_in_parts(
    method: Method, batch: Batch, progress: float, num_parts: int
) -> dict[str, Tensor]:
    """One step of a method on a batch, whose parts go through the networks one after another.

    Args:
        method: One of which :func:`check_accumulation` does not complain.
        batch: This worker's share.
        progress: As of :meth:`Method.update`.
        num_parts: Divides the share's size.

    Returns:
        Means of the loss terms.
    """
    means: dict[str, Tensor] = {}
    optimizers = list(method.optimizers.values())
    for index, part in enumerate(_parts(batch, num_parts)):
        with _one_step(optimizers, index == 0, index == num_parts - 1, num_parts):
            losses = method.update(part, progress)
        for name, value in losses.items():
            means[name] = means[name] + value / num_parts if name in means else value / num_parts
    return means


def _parts(batch: Batch, num_parts: int) -> Iterator[Batch]:
    """The batch in equal parts; what a method does not read stays empty in each."""
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


@contextmanager
def _one_step(
    optimizers: Iterable[Optimizer], is_first: bool, is_last: bool, num_parts: int
) -> Iterator[None]:
    """Inside, gradients are cleared for the first part only, and only the last one steps.

    A method's update is whole: it clears, adds and steps. So what its optimizers do is held back
    here, for the time of a part, rather than by every method.
    """
    for optimizer in optimizers:
        take_step = optimizer.step
        if not is_first:
            optimizer.zero_grad = _nothing  # type: ignore[method-assign]
        optimizer.step = _nothing  # type: ignore[method-assign,assignment]
        if is_last:

            def last_step(optimizer: Optimizer = optimizer, take_step: object = take_step) -> None:
                for group in optimizer.param_groups:
                    for parameter in group["params"]:
                        if parameter.grad is not None:
                            parameter.grad /= num_parts
                assert callable(take_step)
                take_step()

            optimizer.step = last_step  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        for optimizer in optimizers:
            vars(optimizer).pop("zero_grad", None)
            del optimizer.step


def _nothing(*args: object, **kwargs: object) -> None:
    """Stands for what is held back."""
