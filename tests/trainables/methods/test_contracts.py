"""Every method of the table keeps to the contract, as it is and with what else it can do."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.contracts import MethodContract
from tests.support.tiny_methods import BATCH_SIZE, CASES
from trainables.methods import (
    DANN,
    MCD,
    METHODS,
    RCA,
    SRDC,
    DisClusterDA,
    Method,
    Runtime,
    Supervised,
)
from trainables.runtime.randomness import generator


class TestSupervised(MethodContract):
    method = Supervised


class TestDANN(MethodContract):
    method = DANN


class TestMCD(MethodContract):
    method = MCD
    settings = CASES["mcd"][1]
    parity_settings = {"dropout": 0.0}

    def make_comparable(self, method: Method, step: int, runtime: Runtime) -> None:
        """Start from larger weights: MCD's own tell the features nothing in three steps."""
        assert isinstance(method, MCD)
        if step == 0:
            for layer in method.heads.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, 0.0, 0.5)


class TestRCA(MethodContract):
    method = RCA

    def make_comparable(self, method: Method, step: int, runtime: Runtime) -> None:
        """Give each worker its share of the noise of the global batch."""
        assert isinstance(method, RCA)
        method.draw_noise = _noise(step, runtime)


class TestRCAWithVAT(TestRCA):
    settings = CASES["rca_vat"][1]


class TestSRDC(MethodContract):
    method = SRDC


class TestSRDCSoftMixed(MethodContract):
    method = SRDC
    settings = CASES["srdc_soft_mixed"][1]


class TestSRDCHard(MethodContract):
    method = SRDC
    settings = CASES["srdc_hard"][1]


class TestDisClusterDA(MethodContract):
    method = DisClusterDA


class TestDisClusterDATextbook(MethodContract):
    method = DisClusterDA
    settings = CASES["disclusterda_textbook"][1]


def _noise(step: int, runtime: Runtime) -> Callable[[Tensor], Tensor]:
    """Draw for the global batch; return this worker's share."""
    rng = generator(0, "noise", step)

    def draw(images: Tensor) -> Tensor:
        whole = torch.randn(BATCH_SIZE, *images.shape[1:], generator=rng)
        return whole.chunk(runtime.world_size)[runtime.rank]

    return draw


CONTRACTS = [value for name, value in dict(globals()).items() if name.startswith("Test")]


def test_every_method_and_case_has_a_contract() -> None:
    tested = [(contract.method, contract.settings) for contract in CONTRACTS]
    missing = [
        case for case, (name, config) in CASES.items() if (METHODS[name], config) not in tested
    ]
    assert not missing, f"write a subclass of MethodContract here for {missing}"
    assert {name for name, _ in CASES.values()} == set(METHODS)
