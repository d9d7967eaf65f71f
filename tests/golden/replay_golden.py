"""Replays recorded steps of the reference through this project's own code.

    python -m tests.golden.replay_golden DIR

prints the worst absolute difference of each file in DIR, and exits with 1 if one is beyond the
tolerance. The format and the formulas are in golden/README.md. Everything runs in float64.
"""

import argparse
import sys
from pathlib import Path

import torch

from tests.golden.replay_functions import replay_augmentations, replay_functions, replay_schedules
from tests.golden.replay_methods import replay_method
from tests.golden.traces import TOLERANCE, Trace, read_traces


def replay(trace: Trace) -> None:
    """Replays a trace of any file; its ``differences`` tell how it went."""
    other = {
        "functions": replay_functions,
        "schedules_da": replay_schedules,
        "schedules_supervised": replay_schedules,
        "augmentation": replay_augmentations,
    }
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        other.get(trace.file, replay_method)(trace)
    finally:
        torch.set_default_dtype(before)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.golden.replay_golden",
        description="Replays recorded steps of the reference.",
    )
    parser.add_argument("folder", type=Path, help="files as described in golden/README.md")
    folder = parser.parse_args().folder
    if not list(folder.glob("*.npz")):
        parser.error(f"{folder} must hold .npz files with traces, and holds none.")
    worst: dict[str, tuple[float, str]] = {}
    for trace in read_traces(folder):
        replay(trace)
        value, place = max((d, p) for p, d in trace.differences)
        worst[trace.file] = max(worst.get(trace.file, (0.0, "")), (value, f"{trace}/{place}"))
    print(f"{'file':22s}{'worst difference':>18s}  where")
    for file, (value, place) in worst.items():
        print(f"{file:22s}{value:18.1e}  {place}")
    return int(any(value > TOLERANCE for value, _ in worst.values()))


if __name__ == "__main__":
    sys.exit(main())
