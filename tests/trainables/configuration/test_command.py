"""Expected errors of a command become a message and an exit code; faults keep their traceback."""

from typing import NoReturn

import pytest

from trainables.configuration.command import command


class LostError(RuntimeError):
    """An error that a command declares."""


class LostForGoodError(LostError):
    """A special case of it."""


@pytest.mark.parametrize(
    "error, code, message",
    [
        (ValueError("no such file."), 2, "no such file.\n"),
        (OSError("no route"), 2, "no route\n"),
        (LostError("worker 3"), 1, "The job failed: worker 3\n"),
        (LostForGoodError("{brace}"), 1, "The job failed: {brace}\n"),
        (KeyboardInterrupt(), 130, "Stopped.\n"),
    ],
)
def test_an_expected_error_is_a_message_and_a_code(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @command(
        bad_input=(ValueError, OSError),
        failures={LostError: "The job failed: {error}"},
        interrupted="Stopped.",
    )
    def main(arguments: list[str] | None = None) -> NoReturn:
        raise error

    assert main([]) == code
    assert capsys.readouterr() == ("", message)


def test_what_is_not_expected_is_raised() -> None:
    @command()
    def main(arguments: list[str] | None = None) -> NoReturn:
        raise LookupError("a fault")

    with pytest.raises(LookupError, match="a fault"):
        main([])


def test_a_command_that_ends_well_returns_its_own_code_and_gets_the_arguments() -> None:
    @command()
    def main(arguments: list[str] | None = None) -> int:
        return len(arguments or [])

    assert (main(["a", "b", "c"]), main()) == (3, 0)
