"""Why the way to a cluster does not open."""

import pytest

from study.jobs.tunnel import reason_in


@pytest.mark.parametrize(
    "output, reason",
    [
        ("", "no answer"),
        (
            "Attempting …\nssh: connect to host 10.0.0.1 port 22: Connection timed out\n",
            "ssh: connect to host 10.0.0.1 port 22: Connection timed out",
        ),
        (
            "Traceback:\njsonschema.exceptions.ValidationError: 'resources' is a required "
            "property\n\n"
            "On instance['x']:\n    {'Encrypted': True}\nError: Failed to forward dashboard.\n",
            "jsonschema.exceptions.ValidationError: 'resources' is a required property",
        ),
    ],
)
def test_of_a_long_answer_the_reason_is_shown(output: str, reason: str) -> None:
    assert reason_in(output) == reason
