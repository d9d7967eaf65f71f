"""Commands: expected errors end them with one message and an exit code."""

import sys
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Protocol

from trainables.configuration.former_keys import FormerNameWarning

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
"""Exit codes of every command besides 0; the last is what shells give for Ctrl-C."""


class Main(Protocol):
    """The main function of a command."""

    def __call__(self, arguments: list[str] | None = None) -> int:
        """Run with the given arguments, else the process's; return the exit code."""


def command(
    *,
    bad_input: tuple[type[BaseException], ...] = (ValueError,),
    failures: Mapping[type[BaseException], str] | None = None,
    interrupted: str = "Interrupted.",
) -> Callable[[Main], Main]:
    """Decorate a command's main function so that expected errors become exit codes.

    The messages go to the standard error. Other exceptions are faults of the program and keep
    their traceback.

    Args:
        bad_input: Errors that the user can correct, with code 2; the message is the error's text.
        failures: Further errors, with code 1, and the message for each, in which ``{error}``
            stands for the error's text.
        interrupted: The message after Ctrl-C.
    """
    texts = failures or {}

    def decorate(main: Main) -> Main:
        @wraps(main)
        def run(arguments: list[str] | None = None) -> int:
            before, warnings.formatwarning = warnings.formatwarning, _short
            try:
                return main(arguments)
            except bad_input as error:
                return _end(str(error), BAD_INPUT)
            except tuple(texts) as error:
                text = next(text for kind, text in texts.items() if isinstance(error, kind))
                return _end(text.format(error=error), FAILED)
            except KeyboardInterrupt:
                return _end(interrupted, INTERRUPTED)
            finally:
                warnings.formatwarning = before

        return run

    return decorate


_formatwarning = warnings.formatwarning


def _short(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Format warnings about users' files as their text alone: the line of code is not theirs."""
    if issubclass(category, FormerNameWarning):
        return f"{message}\n"
    return _formatwarning(message, category, filename, lineno, line)


def _end(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code
