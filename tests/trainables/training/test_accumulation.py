"""A batch in parts: the same step where losses are means over samples, an error elsewhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.tiny_methods import BATCH_SIZE, TinyData, tiny_backbone, tiny_method
from trainables.configuration.schema import validate
from trainables.methods import METHODS
from trainables.nn.optimization import set_learning_rate
from trainables.runtime.randomness import seed_everything
from trainables.training.accumulation import GradientAccumulation
from trainables.training.trial import run_trial
from trainables.trial_config import TrialConfig

NUM_PARTS = 4


def trained(name: str, num_parts: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Networks after three steps, with clipped gradients and momentum; the last losses."""
    seed_everything(0, "backbone")
    accumulation = GradientAccumulation(num_parts)
    method = tiny_method(name, tiny_backbone(), accumulation=accumulation)
    data, losses = TinyData(), dict[str, Tensor]()
    method.begin_epoch(data.views(), 0)
    for step in range(3):
        losses = accumulation.update(method, data.batch(step), 0.5)
    return method.networks.state_dict(), losses


@pytest.fixture
def in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.supports_accumulation])
def test_parts_add_up_to_the_step_on_the_whole(name: str, in_float64: None) -> None:
    whole, losses = trained(name, 1)
    parts, means = trained(name, NUM_PARTS)
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=0, atol=1e-12)
    assert means.keys() == losses.keys()
    for key, value in losses.items():
        torch.testing.assert_close(means[key], value, rtol=0, atol=1e-12)


def test_the_methods_that_say_so_are_those_of_plain_means() -> None:
    assert {n for n, m in METHODS.items() if m.supports_accumulation} == {
        "supervised",
        "no_adaptation",
        "dann",
    }


@pytest.mark.parametrize("name", ["dann", "no_adaptation"])
def test_all_parts_take_one_step_and_leave_the_optimizers_as_they_were(name: str) -> None:
    accumulation = GradientAccumulation(NUM_PARTS)
    method = tiny_method(name, tiny_backbone(), accumulation=accumulation)
    before = {key: value.clone() for key, value in method.networks.state_dict().items()}
    steps: list[int] = []
    for optimizer in method.optimizers.values():
        optimizer.register_step_pre_hook(lambda *_: steps.append(1))
    accumulation.update(method, TinyData().batch(0), 0.5)
    assert len(steps) == len(method.optimizers)
    assert all(not {"step", "zero_grad"} & vars(o).keys() for o in method.optimizers.values())
    after = method.networks.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)


def test_an_accumulating_optimizer_has_the_state_and_the_groups_of_a_plain_one() -> None:
    """Else a checkpoint would not hold its momentum, and a schedule not change its rate."""
    accumulation = GradientAccumulation(2)
    method = tiny_method("dann", tiny_backbone(), accumulation=accumulation)
    accumulation.update(method, TinyData().batch(0), 0.5)
    optimizers = method.state_dict()["optimizers"]
    assert all(state["state"] for state in optimizers.values()), "of momentum"
    plain = tiny_method("dann", tiny_backbone())
    plain.load_state_dict(method.state_dict())
    resumed = tiny_method("dann", tiny_backbone(), accumulation=GradientAccumulation(2))
    resumed.load_state_dict(plain.state_dict())
    for name, optimizer in resumed.optimizers.items():
        set_learning_rate(optimizer, 0.25)
        set_learning_rate(plain.optimizers[name], 0.25)
        expected = plain.optimizers[name].state_dict()
        assert optimizer.state_dict()["param_groups"] == expected["param_groups"]
        for index, state in expected["state"].items():
            for key, value in state.items():
                assert torch.equal(optimizer.state_dict()["state"][index][key], value)


def config(method: str, backbone: str, num_parts: int = 2) -> TrialConfig:
    return validate(
        TrialConfig,
        {
            "task": {"digits": {"num_source": 60, "num_test": 10}},
            "method": method,
            "backbone": backbone,
            "batch_size": BATCH_SIZE,
            "gradient_accumulation_steps": num_parts,
            "schedule": {"num_epochs": 1},
        },
    )


@pytest.mark.parametrize(
    ("method", "backbone", "message"),
    [
        (
            "mcd",
            "vit_micro",
            "gradient_accumulation_steps 2: method 'mcd' has losses of the batch as a whole",
        ),
        ("dann", "small_cnn", "gradient_accumulation_steps 2: the network has BatchNorm"),
    ],
)
def test_where_it_would_be_another_step_it_is_an_error(
    method: str, backbone: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        list(run_trial(config(method, backbone), tmp_path / "trial", tmp_path / "cache"))


def test_what_a_batch_cannot_be_divided_into_is_an_error() -> None:
    with pytest.raises(
        ValueError,
        match=re.escape(
            "batch_size 8 must be a multiple of workers × gradient_accumulation_steps, 1 × 3."
        ),
    ):
        config("dann", "vit_micro", 3)


@pytest.mark.slow
def test_a_trial_in_parts_runs(tmp_path: Path) -> None:
    *_, last = run_trial(config("dann", "vit_micro"), tmp_path / "trial", tmp_path / "cache")
    assert last.finished
