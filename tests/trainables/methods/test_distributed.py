"""Two workers with half a batch each take the steps of one worker with the whole batch.

On trunks without batch normalisation, and with that of heads in evaluation mode: its statistics
are each worker's own by design. In float64, without dropout, and with the noise of VAT given.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tests.support.tiny_methods import (
    BATCH_SIZE,
    CASES,
    TinyData,
    share_of,
    tiny_backbone,
    tiny_method,
)
from trainables.methods import MCD, METHODS, RCA, Method
from trainables.runtime.distributed import Runtime, current_runtime
from trainables.runtime.randomness import generator, seed_everything

pytestmark = pytest.mark.slow

NUM_STEPS = 3
STEPS_PER_EPOCH = 2
WORLD_SIZE = 2

Result = dict[str, dict[str, Tensor]]


def train(case: str, runtime: Runtime, batchnorm: bool) -> Result:
    """Takes three steps in two epochs; gives the state and the mean loss terms."""
    seed_everything(0, "backbone")
    backbone = tiny_backbone(batchnorm=batchnorm)
    method = tiny_method(case, backbone, runtime, **({"dropout": 0.0} if case == "mcd" else {}))
    if isinstance(method, MCD):  # its own tiny weights tell the features nothing in three steps
        for layer in method.heads.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0.0, 0.5)
    data = TinyData()
    sums: dict[str, Tensor] = {}
    for step in range(NUM_STEPS):
        epoch = step // STEPS_PER_EPOCH
        if step % STEPS_PER_EPOCH == 0:
            method.begin_epoch(data.views(), epoch)
        if not batchnorm:
            _freeze_batchnorm(method)
        if isinstance(method, RCA):
            method.draw_noise = _noise(step, runtime)
        batch = share_of(data.batch(step), runtime.rank, runtime.world_size)
        for name, value in method.update(batch, epoch / 2).items():
            sums[name] = sums.get(name, torch.zeros(())) + value
    return {"state": method.networks.state_dict(), "losses": sums}


def _freeze_batchnorm(method: Method) -> None:
    for layer in method.networks.modules():
        if isinstance(layer, _BatchNorm):
            layer.eval()


def _noise(step: int, runtime: Runtime) -> Callable[[Tensor], Tensor]:
    """Draws for the global batch and gives this worker's share."""
    rng = generator(0, "noise", step)

    def draw(images: Tensor) -> Tensor:
        whole = torch.randn(BATCH_SIZE, *images.shape[1:], generator=rng)
        return whole.chunk(runtime.world_size)[runtime.rank]

    return draw


def train_all(runtime: Runtime, batchnorm: bool) -> dict[str, Result]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return {case: train(case, runtime, batchnorm) for case in CASES}
    finally:
        torch.set_default_dtype(before)


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD_SIZE
    )
    runtime = current_runtime(torch.device("cpu"))
    results = {
        name: train_all(runtime, batchnorm)
        for name, batchnorm in (("plain", False), ("batchnorm", True))
    }
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def distributed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each of the two workers came to, for all methods at once."""
    folder = tmp_path_factory.mktemp("workers")
    torch.multiprocessing.spawn(_worker, args=(str(folder),), nprocs=WORLD_SIZE)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD_SIZE)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Result]:
    """What one process comes to."""
    return train_all(Runtime(), batchnorm=False)


def test_cases_cover_every_method() -> None:
    assert {name for name, _ in CASES.values()} == set(METHODS)


@pytest.mark.parametrize("case", CASES)
def test_two_workers_take_the_steps_of_one(
    case: str, distributed: list[Any], alone: dict[str, Result]
) -> None:
    expected = alone[case]
    workers = [results["plain"][case] for results in distributed]
    for name, value in expected["state"].items():
        for worker in workers:
            torch.testing.assert_close(worker["state"][name], value, rtol=0, atol=1e-9)
    for name, value in expected["losses"].items():
        mean = torch.stack([worker["losses"][name] for worker in workers]).mean()
        torch.testing.assert_close(mean, value, rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_workers_agree_with_batch_normalisation(case: str, distributed: list[Any]) -> None:
    first, second = (results["batchnorm"][case]["state"] for results in distributed)
    statistics = ("running_mean", "running_var")
    for name, value in first.items():
        if not name.endswith(statistics):  # each worker's own until the next step begins
            assert torch.equal(second[name], value), name


def test_parity_is_not_trivial(alone: dict[str, Result]) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        seed_everything(0, "backbone")
        initial = tiny_backbone().state_dict()
    finally:
        torch.set_default_dtype(before)
    for case, result in alone.items():
        for name, value in initial.items():
            moved = (result["state"][f"backbone.{name}"] - value).abs().max()
            assert moved > 1e-3, case
