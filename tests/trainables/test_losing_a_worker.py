"""What becomes of a trial of several workers when one of them is gone, or fails."""

import os
import signal
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from ray.exceptions import RayActorError
from torch import nn

from trainables.ray_trainable import _ConnectionLost, _ending, _TrialRaised
from trainables.runtime.distributed import current_runtime, is_lost_connection

OWN, PEER, DEAD = _TrialRaised("diverged"), _ConnectionLost("Read error"), RayActorError()


@pytest.mark.parametrize(
    "errors, ending",
    [
        ([OWN], {"failed": "diverged"}),
        ([OWN, OWN], {"failed": "diverged"}),
        ([PEER, OWN], {"failed": "diverged"}),  # it lost the one that failed
        ([PEER], {"lost": "text"}),  # noticed before Ray has noticed the death
        ([PEER, PEER], {"lost": "text"}),
        ([PEER, DEAD], {"lost": "text"}),
        ([OWN, DEAD], {"lost": "text"}),
    ],
)
def test_a_trial_fails_by_an_error_of_its_own_alone(
    errors: list[Exception],
    ending: dict[str, str],
) -> None:
    assert _ending(errors, "text") == {**ending, "done": True}


def _lose(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    runtime = current_runtime(torch.device("cpu"))
    network = runtime.wrap(nn.Linear(2, 2))
    crossings = {
        "gradients": lambda: network(torch.ones(1, 2)).sum().backward(),
        "gather": lambda: runtime.all_gather(torch.ones(1)),
        "broadcast_object": lambda: runtime.broadcast_object("order"),
        "buffers": lambda: runtime.broadcast_buffers(nn.BatchNorm1d(2)),
    }
    for cross in crossings.values():
        cross()
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    for name, cross in crossings.items():
        try:
            cross()
        except RuntimeError as error:
            if is_lost_connection(error):
                (Path(folder) / name).touch()


def test_a_killed_worker_is_missed_in_all_that_crosses(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_lose, args=(rank, str(tmp_path))) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, -signal.SIGKILL]
    assert {path.name for path in tmp_path.iterdir()} >= {
        "gradients",
        "gather",
        "broadcast_object",
        "buffers",
    }


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("/gloo/transport/"),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_other_errors_are_the_trial_s_own(error: Exception) -> None:
    assert not is_lost_connection(error)


def test_an_error_of_nccl_is_a_lost_connection() -> None:
    assert is_lost_connection(dist.DistBackendError("NCCL error: remote process exited"))
