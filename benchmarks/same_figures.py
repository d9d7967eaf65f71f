"""Checks that two revisions compute the same figures, bit for bit.

git worktree add ../before <revision>
python -m benchmarks.same_figures ../before

A small study of `digits` (search with pruning, shared pre-training, final runs; No Adaptation,
DANN and MCD) is run at concurrency 1 by the code in each folder, one after the other, on this
machine. Compared by value are: the records, without wall-clock and processor time, restarts and
paths; the weights of the final runs, tensor by tensor; their predictions and confusion matrices,
byte by byte. Settings that were renamed in between compare by their present names. The exit code
is 1 if anything differs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from study.storage.study_folder import StudyFolder
from study.trials.records import TrialRecord, read_records

SPACE = """
task: {digits: {num_source: 1000, num_test: 50}}
num_trials: 12
share_records: false
concurrency: 1
pruner: {asha: {min_evaluations: 1, reduction_factor: 2}}
final_seeds: 2
fixed:
  backbone: {small_cnn: {width: 8, feature_dim: 32}}
  initialization:
    pretraining:
      optimizer: {algorithm: adamw, learning_rate: 2.0e-3}
      schedule: {num_epochs: 1, decay: cosine, per: step}
  optimizer: {algorithm: adamw}
  schedule: {num_epochs: 3, decay: cosine, per: step}
  selection: {source_accuracy_floor: 0.0}
search:
  optimizer:
    learning_rate: {log_uniform: [1.0e-4, 3.0e-3]}
  augmentation: {choice: {weak: {}, strong: {images_per_draw: 8}}}
  method:
    choice:
      no_adaptation: {}
      dann: {domain_weight: {log_uniform: [0.03, 3.0]}}
      mcd: {hidden_dim: 32, num_generator_steps: {integer: [1, 3]}}
"""
MEASURED = {"seconds", "cpu_seconds", "restarts", "paths"}
"""What two runs of the same code do not share."""


def run_study(code: Path, out: Path) -> StudyFolder:
    """Run the study by the code in a folder; return what it left."""
    out.mkdir()
    space = out / "space.yaml"
    space.write_text(SPACE)
    arguments = ("--space", space, "--out", out, "--name", "study")
    subprocess.run(
        [sys.executable, "-m", "study.run", *map(str, arguments)],
        cwd=code,
        env={**os.environ, "PYTHONPATH": str(code)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return StudyFolder(out / "study")


def differences(one: StudyFolder, other: StudyFolder) -> Iterator[str]:
    """Yield what differs between two studies, a line each."""
    records = [{r.id: r for r in read_records(study.records)} for study in (one, other)]
    if list(records[0]) != list(records[1]):
        yield f"trials: {', '.join(records[0])} and {', '.join(records[1])}"
    for name in records[0].keys() & records[1].keys():
        first, second = records[0][name], records[1][name]
        for key, value in _figures(first).items():
            if value != _figures(second)[key]:
                yield f"{name} {key}: {value} and {_figures(second)[key]}"
        if first.is_complete_final:
            yield from _different_files(name, one.trial(name), other.trial(name))


def _figures(record: TrialRecord) -> dict[str, Any]:
    return {
        **record.model_dump(mode="json", exclude=MEASURED | {"config"}),
        "config": record.trial_config,
    }


def _different_files(name: str, one: Path, other: Path) -> Iterator[str]:
    for path in sorted(one.glob("*.csv")):
        if path.read_bytes() != (other / path.name).read_bytes():
            yield f"{name}: {path.name}"
    weights = [
        torch.load(folder / "best.pt", map_location="cpu")["networks"] for folder in (one, other)
    ]
    if weights[0].keys() != weights[1].keys():
        yield f"{name}: names of weights"
    for key in weights[0].keys() & weights[1].keys():
        if not torch.equal(weights[0][key], weights[1][key]):
            yield f"{name}: weights of {key}"


def main() -> int:
    """Compare the code in a folder with this folder's."""
    parser = argparse.ArgumentParser(description="Same figures by two revisions?")
    parser.add_argument("before", type=Path, help="folder of the other revision's code")
    parser.add_argument("--out", type=Path, help="keep both studies in this new folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="s2r-") as temporary:
        out = arguments.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        before = run_study(arguments.before.resolve(), out / "before")
        now = run_study(Path(__file__).resolve().parents[1], out / "now")
        found = list(differences(before, now))
        records = read_records(now.records)
    for line in found:
        print(line)
    finals = sum(record.is_complete_final for record in records)
    print(f"{len(records)} records, {finals} final runs with weights: {len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
