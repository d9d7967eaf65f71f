"""Which sampler the automatic choice resolves to."""

import pytest

from study.search.samplers import AutoConfig, GPConfig, TPEConfig, resolve
from tests.support.fake_trials import make_study
from trainables.configuration.schema import BaseConfig, Choice


@pytest.mark.parametrize(
    "search, num_trials, settings",
    [
        ({"batch_size": {"integer": [8, 64]}}, 250, GPConfig()),
        (
            {"batch_size": {"choice": [8, 64]}, "method": {"choice": {"dann": {}, "mcd": {}}}},
            9,
            GPConfig(),
        ),
        ({"batch_size": {"integer": [8, 64]}}, 251, TPEConfig()),
        (
            {
                "method": {
                    "choice": {
                        "no_adaptation": {},
                        "dann": {"domain_weight": {"uniform": [0.0, 1.0]}},
                    }
                }
            },
            9,
            TPEConfig(),
        ),
    ],
)
def test_what_auto_is(search: dict[str, object], num_trials: int, settings: object) -> None:
    _, space = make_study(search=search)
    auto = Choice[BaseConfig]("auto", AutoConfig())
    assert resolve(auto, space, num_trials) == settings
