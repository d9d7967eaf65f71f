"""How a study uses Tune."""

import time

import pytest
from ray.tune.execution import class_cache
from ray.util import placement_group, remove_placement_group

from study.execution import tuner
from study.execution.local_ray import own_ray
from study.execution.tuner import PendingMonitor, send_no_keys
from tests.support.studies import DEADLINE_SECONDS
from trainables.ray_trainable import TrialTrainable


def test_keys_are_not_sent_with_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-0123456789")
    send_no_keys()
    actor = class_cache._ActorClassCache().get(TrialTrainable)
    assert "PL_DISABLE_FORK" in str(actor._default_options)  # what is sent is looked for here
    assert "secret-0123456789" not in str(actor._default_options)


@pytest.mark.slow
def test_trials_without_a_place_are_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuner, "POLL_INTERVAL_SECONDS", 0.05)
    told: list[int] = []
    waiting = PendingMonitor(told.append)

    def look_until_told(number: int) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(told) < number:
            assert time.monotonic() < deadline
            waiting.poll()
            time.sleep(0.01)

    with own_ray(1, 1) as wait_for_ray:
        wait_for_ray()
        first = placement_group([{"CPU": 1}])
        assert first.wait(DEADLINE_SECONDS)
        second = placement_group([{"CPU": 1}])
        look_until_told(1)
        for _ in range(20):
            waiting.poll()
            time.sleep(0.01)
        remove_placement_group(first)
        look_until_told(2)
        remove_placement_group(second)
    assert told == [1, 0]
