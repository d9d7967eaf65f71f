"""What the recorded schedules leave open: where a decay starts after a warm-up."""

import pytest

from trainables.configuration.schema import validate
from trainables.nn.optimization import ScheduleConfig, learning_rate_factor


def factors(**settings: object) -> list[float]:
    """Of each of twelve steps, four an epoch."""
    schedule = validate(
        ScheduleConfig, {"num_epochs": None, "num_steps": 12, "per": "step", **settings}
    )
    return [learning_rate_factor(schedule, step, 12, 4) for step in range(12)]


@pytest.mark.parametrize("decay", ["dann", "cosine", "linear", "exponential", "constant"])
def test_warm_up_ends_where_the_decay_starts(decay: str) -> None:
    warm = factors(decay=decay, warmup_steps=3)
    assert warm[:4] == [0.0, 0.5, 1.0, 1.0]
    assert all(later <= sooner for sooner, later in zip(warm[3:], warm[4:], strict=False))


def test_exponential_decay_counts_from_the_end_of_the_warm_up() -> None:
    settings: dict[str, object] = {
        "decay": "exponential",
        "decay_factor": 0.5,
        "decay_interval": 2,
    }
    assert factors(**settings)[:6] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert factors(**settings, warmup_steps=3)[3:9] == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_exponential_decay_has_a_floor() -> None:
    assert factors(decay="exponential", decay_factor=0.1)[:4] == pytest.approx(
        [1, 0.1, 0.01, 0.01]
    )


def test_step_decay_counts_epochs_of_the_whole_training() -> None:
    decayed = factors(decay="step", decay_epochs=[1, 2], warmup_steps=2)
    assert decayed == pytest.approx([0, 1, 1, 1] + [0.1] * 4 + [0.01] * 4)
