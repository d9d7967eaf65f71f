"""Measures what selection criteria cost beside the training that they judge.

python -m benchmarks.criteria_cost [--method NAME]

One trial as in the space ``digits``, on one torch thread: milliseconds of processor time that each
criterion takes at an evaluation (median of several), and what all of them together are of an
epoch's training steps. ``mixtures`` are the predictions on mixed images that MixVal needs, and
count; predictions on the source's hold-out and on the target, which every evaluation makes, do
not, nor does the second in which a process imports scikit-learn.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from trainables.configuration.schema import validate
from trainables.criteria import CRITERIA
from trainables.data.evaluation import OracleEvaluation
from trainables.inference.trained_method import load_trained
from trainables.training.domains import open_domains
from trainables.training.evaluator import Evaluator
from trainables.training.trial import run_trial
from trainables.trial_config import TrialConfig


def trial(method: str) -> TrialConfig:
    return validate(
        TrialConfig,
        {
            "task": "digits",
            "method": method,
            "backbone": "small_cnn",
            "augmentation": {"weak": {"images_per_draw": 8}},
            "optimizer": {"algorithm": "adamw"},
            "schedule": {"num_epochs": 6, "decay": "cosine", "per": "step"},
        },
    )


def milliseconds(call: Callable[[], object], repetitions: int = 7) -> float:
    """Return the median time, after a first call that does not count."""
    times = []
    for _ in range(repetitions + 1):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return 1000 * statistics.median(times[1:])


def costs(meter: Evaluator) -> dict[str, float]:
    """Milliseconds of each criterion, and of what one of them alone needs."""
    evaluation, _ = meter.evaluation()
    assert isinstance(evaluation, OracleEvaluation) and meter.target_sample is not None
    sample, target = meter.target_sample, evaluation.target
    times = {"mixtures": milliseconds(lambda: meter.mixtures(sample, target))}
    for name, entry in CRITERIA.items():
        times[name] = milliseconds(partial(entry().score, evaluation))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what selection criteria cost.")
    parser.add_argument("--method", default="no_adaptation")
    config = trial(parser.parse_args().method)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        seconds = [report.cpu_seconds for report in run_trial(config, path / "trial", path)]
        meter = load_trained(config, path / "trial", open_domains(config, path))
        times = costs(meter)
        evaluation = milliseconds(meter.evaluation)
    epoch = 1000 * statistics.median(
        after - before for before, after in zip(seconds, seconds[1:], strict=False)
    )
    total = sum(times.values())
    training = epoch - evaluation - (total - times["mixtures"])
    for name, value in sorted(times.items(), key=lambda item: -item[1]):
        print(f"{name:24} {value:7.1f} ms")
    print(
        f"{'all':24} {total:7.1f} ms, {100 * total / training:.1f} % of the training steps of "
        f"an epoch ({training:.0f} ms)"
    )


if __name__ == "__main__":
    main()
