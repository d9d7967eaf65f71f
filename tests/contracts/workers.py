"""Two processes that form a process group, kept for all tests of a session."""

import atexit
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from functools import cache
from multiprocessing import get_context
from typing import Any

import torch
import torch.distributed as dist

from trainables.runtime.distributed import Runtime, current_runtime

WORLD_SIZE = 2
TIMEOUT_SECONDS = 60


def run_on_workers(function: Callable[..., Any], *arguments: object) -> list[Any]:
    """Call a function in both processes at the same time.

    Args:
        function: Importable by its name; its first argument is the worker's
            :class:`~trainables.runtime.distributed.Runtime`.
        *arguments: Further arguments, to be pickled.

    Returns:
        What the function returns in each process, by rank.
    """
    call = pickle.dumps((function, arguments))
    futures = [process.submit(_call, list(sys.path), call) for process in _processes()]
    try:
        return [pickle.loads(future.result(2 * TIMEOUT_SECONDS)) for future in futures]
    except Exception:
        _stop()  # the other worker may wait for this one
        raise


@cache
def _processes() -> list[ProcessPoolExecutor]:
    """Start one process a rank; importing torch takes seconds, so they are kept."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    rendezvous = os.path.join(folder, "rendezvous")
    return [
        ProcessPoolExecutor(1, get_context("spawn"), _join, (rank, rendezvous))
        for rank in range(WORLD_SIZE)
    ]


def _stop() -> None:
    for process in _processes():
        process.shutdown(wait=False, cancel_futures=True)
    _processes.cache_clear()


def _join(rank: int, rendezvous: str) -> None:
    torch.set_num_threads(1)
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # a host name need not resolve
    dist.init_process_group(
        "gloo",
        init_method=f"file://{rendezvous}",
        rank=rank,
        world_size=WORLD_SIZE,
        timeout=timedelta(seconds=TIMEOUT_SECONDS),
    )


def _call(path: list[str], call: bytes) -> bytes:
    """Run a pickled call with the caller's import path, on which a plugin may have been put."""
    sys.path[:] = path
    function, arguments = pickle.loads(call)
    runtime: Runtime = current_runtime(torch.device("cpu"))
    return pickle.dumps(function(runtime, *arguments))
