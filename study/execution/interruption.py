"""Ctrl-C and SIGTERM, taken between two events of a study."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A signal came: Ray and the trials under way are left as they are."""


class GracefulShutdown:
    """Ends the run at the first Ctrl-C or SIGTERM; the trials can go on later.

    The signal is noted and acted upon between two events, so that records and Optuna's storage
    are whole. A second signal is as if there were nobody to take it.

    Args:
        checks: Called between the same events; may raise what else is to end the run.
    """

    def __init__(self, *checks: Callable[[], None]) -> None:
        self.checks = checks
        self.requested = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "GracefulShutdown":
        if threading.current_thread() is threading.main_thread():
            self.before = {
                number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
            }
            self.listen()
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def listen(self) -> None:
        """Takes the signals over, also from whoever has taken them in between."""
        if not self.requested:
            for number in self.before:
                signal.signal(number, self._request)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self.__exit__()

    def check(self) -> None:
        """Runs the checks; raises :class:`Interrupted` if a signal has come."""
        for check in self.checks:
            check()
        if self.requested:
            raise Interrupted
