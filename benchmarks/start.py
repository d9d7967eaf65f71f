"""Measures seconds from the command to the first epochs of a study's first trial.

python -m benchmarks.start [--space NAME|FILE]
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MARKS = {
    "the first trial is handed out": " starts (",
    "its first epoch of pre-training": " pre-training ",
    "its first epoch": "source_val/accuracy",
}
"""What is timed, and what a line of the output has then; lines of pre-training come first."""


def measure(space: str, out: Path) -> dict[str, float]:
    """Start a study and interrupt it after the first epoch of the first trial.

    Args:
        space: The name of the space.
        out: An empty folder, so that no cache helps.

    Returns:
        Seconds since the command was given, by event.
    """
    started = time.monotonic()
    study = subprocess.Popen(
        [sys.executable, "-m", "study.run", "--space", space, "--out", str(out)],
        stdout=subprocess.PIPE,
        text=True,
    )
    seconds: dict[str, float] = {}
    assert study.stdout is not None
    for line in study.stdout:
        for what, mark in MARKS.items():
            is_other = what == "its first epoch" and " pre-training " in line
            if mark in line and what not in seconds and not is_other:
                seconds[what] = time.monotonic() - started
        if "its first epoch" in seconds and study.poll() is None:
            study.send_signal(signal.SIGINT)
            break
    study.communicate()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--space", default="digits", metavar="NAME|FILE")
    space: str = parser.parse_args().space
    with tempfile.TemporaryDirectory() as out:
        for what, seconds in measure(space, Path(out)).items():
            print(f"{seconds:6.1f} s  {what}")


if __name__ == "__main__":
    main()
