"""How a study uses Tune."""

import pytest
from ray.tune.execution import class_cache

from study.tuner import send_no_keys
from trainables.ray_trainable import TrialTrainable


def test_keys_are_not_sent_with_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-0123456789")
    send_no_keys()
    actor = class_cache._ActorClassCache().get(TrialTrainable)
    assert "PL_DISABLE_FORK" in str(actor._default_options)  # what is sent is looked for here
    assert "secret-0123456789" not in str(actor._default_options)
