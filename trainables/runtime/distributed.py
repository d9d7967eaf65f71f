"""The device of a trial, and the few operations that cross its workers.

Methods use these and never name Ray or DistributedDataParallel. A method that needs statistics of
a batch computes them over the *global* batch, after :attr:`Runtime.all_gather`, through which
gradients flow.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def _unchanged(value: Any) -> Any:
    return value


def _warn_of_former_name(former: str, present: str) -> None:
    warnings.warn(
        f"Runtime.{former} is now Runtime.{present}; the former name goes with version 0.3.",
        DeprecationWarning,
        stacklevel=3,
    )


@dataclass(frozen=True)
class Runtime:
    """A worker of a trial and its link to the others; by default the only one, on the CPU."""

    device: torch.device = torch.device("cpu")  # noqa: RUF009 - cannot be changed
    """Device of the networks and batches."""
    rank: int = 0
    """Number of this worker, from 0."""
    world_size: int = 1
    """Number of workers, W."""
    wrap: Callable[[nn.Module], nn.Module] = _unchanged
    """Return a module whose gradients are averaged over the workers."""
    all_gather: Callable[[Tensor], Tensor] = _unchanged
    """Concatenate equally shaped ``(B, …)`` tensors of all workers to ``(W·B, …)``; each worker's
    part of the gradient flows back to it."""
    broadcast_object: Callable[[Any], Any] = _unchanged
    """Return the object of worker 0 in every worker; also a barrier."""

    def broadcast_buffers(self, module: nn.Module) -> None:
        """Copy the buffers of worker 0, such as running statistics, to every worker.

        Each worker updates its own from its share of the batches, and worker 0 saves its own: all
        have to predict with those.
        """
        if self.world_size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    @property
    def share(self) -> Callable[[Any], Any]:
        """The former name of :attr:`broadcast_object`, until version 0.3."""
        _warn_of_former_name("share", "broadcast_object")
        return self.broadcast_object

    def same_buffers(self, module: nn.Module) -> None:
        """Call :meth:`broadcast_buffers`; its former name, until version 0.3."""
        _warn_of_former_name("same_buffers", "broadcast_buffers")
        self.broadcast_buffers(module)

    @property
    def is_main(self) -> bool:
        """Whether this is the worker that writes files and reports."""
        return self.rank == 0


def current_runtime(device: torch.device | None = None, sync_batchnorm: bool = False) -> Runtime:
    """Return the runtime of this process, in torch's process group if one is initialised.

    Args:
        device: The device to run on; ``None`` takes a GPU if there is one.
        sync_batchnorm: Whether BatchNorm's statistics are over all workers.
    """
    if device is None:
        device = (
            torch.device("cuda", torch.cuda.current_device())
            if torch.cuda.is_available()
            else torch.device("cpu")
        )
    if not dist.is_initialized():
        return Runtime(device=device)
    return Runtime(
        device=device,
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
        wrap=lambda module: _distributed(
            synchronised(module) if sync_batchnorm else module, device
        ),
        all_gather=_AllGather.apply,
        broadcast_object=_broadcast_from_main,
    )


def is_lost_connection(error: BaseException) -> bool:
    """Return whether an error only means that another worker cannot be reached.

    NCCL's errors have a type; gloo's are plain RuntimeErrors, which name a file of its transport.
    """
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "/gloo/transport/" in str(error)
    )


def synchronised(module: nn.Module) -> nn.Module:
    """Convert every BatchNorm inside a module to one over all workers, and return the module.

    The module and its parameters stay the same objects, which optimizers may hold already.
    """
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    assert converted is module, "a method's networks are no BatchNorm themselves"
    return module


def _distributed(module: nn.Module, device: torch.device) -> nn.Module:
    return DistributedDataParallel(
        module.to(device),
        device_ids=[device] if device.type == "cuda" else None,
    )


class _AllGather(torch.autograd.Function):
    """An all-gather whose backward sums all workers' gradients of this worker's part.

    With gradients then averaged over the workers, a loss of the gathered tensor has the gradient
    that a single process computes on the whole batch. torch.distributed.nn.functional.all_gather
    would do the same, but needs all-to-all, which gloo lacks.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        """Gather ``(B, …)`` of every worker to ``(W·B, …)``."""
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Reduce gradients ``(W·B, …)`` to that of this worker's part, ``(B, …)``."""
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def _broadcast_from_main(value: Any) -> Any:
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
