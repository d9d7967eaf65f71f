"""Graceful shutdown on Ctrl-C and SIGTERM."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A signal has arrived. Running trials are abandoned; they resume from their checkpoints."""


class GracefulShutdown:
    """A context that ends a study at the first Ctrl-C or SIGTERM, so that it can be resumed.

    A signal only sets a flag, which :meth:`check` reads between two events: raised in the middle
    of one, an exception could leave records and Optuna's storage inconsistent. The first signal
    restores the former handlers, so that a second one ends a process that hangs.

    Args:
        checks: Called by every :meth:`check`; each may raise to end the study for another reason.
    """

    def __init__(self, *checks: Callable[[], None]) -> None:
        self.checks = checks
        self.requested = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "GracefulShutdown":
        if threading.current_thread() is threading.main_thread():  # Python allows no other
            self.before = {
                number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
            }
            self.listen()
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def listen(self) -> None:
        """Install the handlers, again if a library has replaced them (Ray does for SIGTERM)."""
        if not self.requested:
            for number in self.before:
                signal.signal(number, self._request)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self.__exit__()

    def check(self) -> None:
        """Run the checks.

        Raises:
            Interrupted: A signal has arrived.
        """
        for check in self.checks:
            check()
        if self.requested:
            raise Interrupted
