"""Run one trial without Ray: ``python -m trainables.run --config trial.yaml``.

Use it to debug a trial, to run one under torchrun, or to reproduce one from a study's records::

    python -m trainables.run --config runs/digits/trials/0007/trial.yaml
    python -m trainables.run --record runs/digits/records.jsonl --trial 0007
    torchrun --nproc-per-node 2 -m trainables.run --config trial.yaml

A reproduced trial equals its record bit for bit on the same kind of processor or GPU, with the
same versions, worker count and ``cpus_per_worker``. Elsewhere sums are rounded differently, and
the losses of the first epoch agree to about 1e-4.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pydantic import BaseModel, ValidationError

from trainables.checkpointing.files import make_writable
from trainables.configuration.command import command
from trainables.configuration.former_keys import former_places, warn_of_former_name
from trainables.configuration.schema import validate
from trainables.configuration.yaml_file import load_yaml
from trainables.runtime.distributed import Runtime, current_runtime
from trainables.tasks import using_data_folder
from trainables.training.checks import check_trials
from trainables.training.report import Report, TrialError
from trainables.training.trial import run_trial
from trainables.trial_config import TrialConfig, read_trial_config


@command(
    failures={TrialError: "The trial failed: {error}"},
    interrupted="Interrupted; the same command continues from the last evaluation.",
)
def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0 if done, 1 if failed, 2 for bad input, 130 if interrupted."""
    options = _parser().parse_args(arguments)
    config, expected = _trial(options)
    out = options.out or Path("runs/trials") / config.identity()
    for folder in (out, options.cache):
        make_writable(folder)
    with using_data_folder(options.data), _Workers(config) as runtime:
        check_trials([config], options.cache)
        return _run(config, out, options.cache, runtime, expected)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainables.run", description="Run one trial, without Ray."
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", type=Path, metavar="FILE", help="a trial's YAML file")
    what.add_argument(
        "--record",
        type=Path,
        metavar="FILE",
        help="a study's records.jsonl; runs --trial again and compares",
    )
    parser.add_argument("--trial", metavar="ID", help="which trial of --record")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="the trial's folder (default: runs/trials/<digest of the configuration>); an "
        "unfinished trial in it continues",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("runs/cache"),
        metavar="DIR",
        help="rendered images and pre-trained backbones (default: %(default)s)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="the folder of downloads, for tasks that name none (default: the "
        "environment variable SYN2REAL_DATA)",
    )
    return parser


def _trial(options: argparse.Namespace) -> tuple[TrialConfig, list[dict[str, float]]]:
    """Return the configuration and, for a record, the metrics that the reports should have."""
    if options.config is not None:
        for place in former_places(load_yaml(options.config)):
            warn_of_former_name(str(options.config), str(place[-1]))
        return read_trial_config(options.config), []
    if options.trial is None:
        raise ValueError("--record needs --trial ID.")
    records = _read_records(options.record)
    if options.trial not in records:
        raise ValueError(
            f"{options.record}: no trial '{options.trial}'. It has: {', '.join(sorted(records))}."
        )
    record = records[options.trial]
    return validate(TrialConfig, record.config), record.expected()


class _RecordedEvaluation(BaseModel):
    """What this command reads of a recorded evaluation."""

    metrics: dict[str, float]


class _RecordedTrial(BaseModel):
    """What this command reads of a study's record, which ``study.trials.records`` writes."""

    id: str
    config: dict[str, Any]
    evaluations: list[_RecordedEvaluation]
    test: dict[str, float] = {}

    def expected(self) -> list[dict[str, float]]:
        """Return the metrics that the reports of the trial should have, in order."""
        metrics = [evaluation.metrics for evaluation in self.evaluations]
        return [*metrics, self.test] if self.test else metrics


def _read_records(path: Path) -> dict[str, _RecordedTrial]:
    """Read a study's records by id; a last line without its end is still being written."""
    try:
        whole, _, _ = path.read_bytes().rpartition(b"\n")
        records = [_RecordedTrial.model_validate_json(line) for line in whole.splitlines()]
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}.") from error
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise ValueError(
            f"{path}: must be a study's records.jsonl, and is not ({reason})."
        ) from error
    return {record.id: record for record in records}


class _Workers:
    """This process as a worker: the only one, or one of torchrun's."""

    def __init__(self, config: TrialConfig) -> None:
        self.config = config
        self.workers = int(os.environ.get("WORLD_SIZE", "1"))

    def __enter__(self) -> Runtime:
        if self.workers != self.config.resources.workers:
            raise ValueError(
                f"resources/workers: must be the number of processes, {self.workers}, got "
                f"{self.config.resources.workers}. Start the trial by: torchrun --nproc-per-node "
                f"{self.config.resources.workers} -m trainables.run …"
            )
        torch.set_num_threads(self.config.resources.cpus_per_worker)
        gpu = self.config.resources.gpus_per_worker > 0
        if gpu and not torch.cuda.is_available():
            raise ValueError(
                "resources/gpus_per_worker: must be 0 on a machine without a GPU, got "
                f"{self.config.resources.gpus_per_worker:g}."
            )
        device = (
            torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            if gpu
            else torch.device("cpu")
        )
        if gpu:
            torch.cuda.set_device(device)
        if self.workers > 1:
            dist.init_process_group("nccl" if gpu else "gloo")
        return current_runtime(device, self.config.resources.sync_batchnorm)

    def __exit__(self, *exception: object) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()


def _run(
    config: TrialConfig, out: Path, cache: Path, runtime: Runtime, expected: list[dict[str, float]]
) -> int:
    reports = []
    for report in run_trial(config, out, cache, runtime):
        if runtime.is_main:
            print(_line(report), flush=True)
        if report.phase != "pretraining":
            reports.append(report)
    if expected and runtime.is_main:
        print(_comparison(reports, expected))
    return 0


def _line(report: Report) -> str:
    shown = {
        name: value
        for name, value in report.metrics.items()
        if not name.startswith("target_batchnorm/")
    }
    metrics = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
    return f"{report.phase} epoch {report.epoch:g}/{report.num_epochs:g}  {metrics}"


def _comparison(reports: list[Report], expected: list[dict[str, float]]) -> str:
    """Return a line that says how much the reports differ from the record."""
    differences = {
        f"{report.phase} evaluation {report.evaluation}, {name}": abs(report.metrics[name] - value)
        for report, metrics in zip(reports, expected, strict=False)
        for name, value in metrics.items()
    }
    worst = max(differences, key=lambda name: differences[name])
    if differences[worst] == 0:
        return f"All {len(differences)} numbers are bit-equal to the record's."
    return (
        f"Largest difference from the record: {differences[worst]:.3g} ({worst}), "
        f"among {len(differences)} numbers."
    )


if __name__ == "__main__":
    sys.exit(main())
