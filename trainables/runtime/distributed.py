"""Where a trial runs: its device, and the few operations that cross its workers.

Methods use these and never name Ray or DistributedDataParallel. Batch statistics are over the
*global* batch: gather with :attr:`Runtime.all_gather`, which is differentiable.
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
    """A trial's place among its workers; the default is one process on the CPU."""

    device: torch.device = torch.device("cpu")  # noqa: RUF009 - cannot be changed
    rank: int = 0
    world_size: int = 1
    wrap: Callable[[nn.Module], nn.Module] = _unchanged
    """Makes a module's gradients averages over the workers."""
    all_gather: Callable[[Tensor], Tensor] = _unchanged
    """Concatenates equally shaped ``(B, …)`` tensors of all workers to ``(W·B, …)``;
    the gradient flows back to each worker's share."""
    broadcast_object: Callable[[Any], Any] = _unchanged
    """Gives every worker the object of worker 0."""

    def broadcast_buffers(self, module: nn.Module) -> None:
        """Gives every worker the buffers (running statistics) of worker 0, which it saves."""
        if self.world_size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    @property
    def share(self) -> Callable[[Any], Any]:
        """The former name of :attr:`broadcast_object`; it goes with version 0.3."""
        _warn_of_former_name("share", "broadcast_object")
        return self.broadcast_object

    def same_buffers(self, module: nn.Module) -> None:
        """Do as :meth:`broadcast_buffers`, whose former name this is; it goes with version 0.3."""
        _warn_of_former_name("same_buffers", "broadcast_buffers")
        self.broadcast_buffers(module)

    @property
    def is_main(self) -> bool:
        """Whether this is the worker that writes files and reports."""
        return self.rank == 0


def current_runtime(device: torch.device | None = None, sync_batchnorm: bool = False) -> Runtime:
    """The runtime of this process: the initialised process group's, else a single worker's.

    Args:
        device: Where to run; a GPU where there is one if ``None``.
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
    """Whether an error only says that another worker is out of reach: dead, or about to be.

    NCCL's errors have a type; gloo's are RuntimeErrors that name a file of its transport.
    """
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "/gloo/transport/" in str(error)
    )


def synchronised(module: nn.Module) -> nn.Module:
    """The same module, the same parameters, with every BatchNorm inside over all workers."""
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    assert converted is module, "a method's networks are no BatchNorm themselves"
    return module


def _distributed(module: nn.Module, device: torch.device) -> nn.Module:
    return DistributedDataParallel(
        module.to(device),
        device_ids=[device] if device.type == "cuda" else None,
    )


class _AllGather(torch.autograd.Function):
    """All-gather whose backward sums every worker's gradient of this worker's share.

    With gradients then averaged over workers, a loss of the gathered tensor has the gradient that
    a single process on the whole batch computes. (torch.distributed.nn.functional.all_gather
    needs all-to-all, which gloo lacks.)
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        """``(B, …)`` to ``(W·B, …)``."""
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """``(W·B, …)`` to ``(B, …)``."""
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def _broadcast_from_main(value: Any) -> Any:
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
