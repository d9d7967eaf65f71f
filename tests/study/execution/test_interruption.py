"""How signals end a study between two of its events."""

import signal

import pytest

from study.execution.interruption import GracefulShutdown, Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_counts_at_the_next_check(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with GracefulShutdown() as interruption:
        interruption.check()
        signal.raise_signal(number)
        assert signal.getsignal(number) is before  # a second one is not held back
        with pytest.raises(Interrupted):
            interruption.check()
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_are_taken_back_from_a_library(number: signal.Signals) -> None:
    with GracefulShutdown() as interruption:
        signal.signal(number, signal.SIG_IGN)
        interruption.listen()
        signal.raise_signal(number)
        assert interruption.requested


def test_the_checks_run_first() -> None:
    def fail() -> None:
        raise ValueError("full")

    with GracefulShutdown(fail) as interruption:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(ValueError, match="^full$"):
            interruption.check()
