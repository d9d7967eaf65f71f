"""Measures what a one-worker trial costs beyond its own training.

python -m benchmarks.overhead [--trials N]

A study of short trials, one at a time in one process; a trial's overhead is the time from the end
of the one before it to its own end, less the seconds that it trained and evaluated. The first
trial, which waits for Ray and for pre-training, does not count.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from study.trials.records import read_records

SPACE = """
task: {digits: {num_source: 400, num_test: 50}}
concurrency: 1
sampler: random
pruner: none
final_seeds: 0
fixed:
  backbone: {small_cnn: {width: 8, feature_dim: 32}}
  optimizer: {algorithm: adamw}
  schedule: {num_epochs: 2}
search:
  optimizer: {learning_rate: {log_uniform: [1.0e-4, 1.0e-3]}}
"""


def measure(num_trials: int, out: Path) -> list[float]:
    """Overheads in seconds of all trials of a study but the first."""
    space = out / "space.yaml"
    space.write_text(SPACE)
    study = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "study.run",
            "--space",
            str(space),
            "--out",
            str(out),
            "--name",
            "study",
            "--trials",
            str(num_trials),
        ],
        stdout=subprocess.DEVNULL,
    )
    ends: list[float] = []
    path = out / "study" / "records.jsonl"
    while study.poll() is None:
        if path.exists() and path.read_bytes().count(b"\n") > len(ends):
            ends.append(time.monotonic())
        time.sleep(0.005)
    assert study.returncode == 0
    trained = [record.seconds for record in read_records(path)]
    return [
        end - before - seconds
        for before, end, seconds in zip(ends, ends[1:], trained[1:], strict=False)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=12)
    with tempfile.TemporaryDirectory() as out:
        overheads = measure(parser.parse_args().trials, Path(out))
    print(
        f"overhead of a one-worker trial after the first, {len(overheads)} trials:\n"
        f"  median {statistics.median(overheads):.2f} s, worst {max(overheads):.2f} s"
    )


if __name__ == "__main__":
    main()
