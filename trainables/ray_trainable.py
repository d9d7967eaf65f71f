"""``run_trial`` as Ray trainables: in the Tune process, or in the workers of a TorchTrainer.

A one-worker trial runs inside Tune's own actor, which the next trial then uses again: Ray Train
would start nine processes for each (some 20 s of processor time). Trials of several workers go
through :class:`ray.train.torch.TorchTrainer`. Both take an :class:`Assignment` and report the same
results.
"""

import json
import os
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

import ray.train
import torch
from ray import tune
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from trainables.checkpoint import write_atomically
from trainables.config import TrialConfig
from trainables.runtime import current_runtime
from trainables.schema import validate
from trainables.trial import Report, run_trial


class Assignment(TypedDict):
    """What a study hands to a trainable."""

    id: str
    """The trial's."""
    trial: dict[str, Any]
    """Its configuration."""
    folder: str
    """Its own folder, on storage that every worker sees."""
    cache: str
    """The folder that trials share."""
    max_restarts: int
    """How often lost workers are replaced."""


class TrialTrainable(tune.Trainable):
    """One trial at a time in this process."""

    reports: Iterator[Report]

    def setup(self, config: Assignment) -> None:  # type: ignore[override]
        """Starts, or goes on with, a trial."""
        self.assignment = config
        self.reports = _reports(config)

    def reset_config(self, new_config: Assignment) -> bool:  # type: ignore[override]
        """Takes on the next trial."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Runs to the next report."""
        try:
            return as_result(next(self.reports))
        except Exception as error:
            return _failure(error, Path(self.assignment["folder"]))

    def cleanup(self) -> None:
        """Lets go of the trial's data and networks."""
        self.reports = iter(())


def as_result(report: Report) -> dict[str, Any]:
    """A report as Tune carries it: as text, since Tune flattens dictionaries."""
    return {"report": json.dumps(asdict(report)), "done": report.finished}


def report_of(result: dict[str, Any]) -> Report | None:
    """The report in a result of Tune's; none in one that says that the trial failed."""
    return Report(**json.loads(result["report"])) if "report" in result else None


def _failure(error: Exception, folder: Path) -> dict[str, Any]:
    """The end of a trial that raised: trying again would raise again."""
    text = "".join(traceback.format_exception(error))
    write_atomically(folder / "error.txt", text.encode())
    return {"failed": f"{type(error).__name__}: {error}", "done": True}


def _reports(assignment: Assignment) -> Iterator[Report]:
    config = validate(TrialConfig, assignment["trial"])
    torch.set_num_threads(config.resources.cpus_per_worker)
    device = torch.device("cuda", 0) if config.resources.gpus_per_worker \
        and torch.cuda.is_available() else torch.device("cpu")
    runtime = current_runtime(device)
    return run_trial(config, Path(assignment["folder"]), Path(assignment["cache"]), runtime)


def run_with_workers(assignment: Assignment) -> None:
    """A Tune function that runs a trial of several workers to its end."""
    resources = validate(TrialConfig, assignment["trial"]).resources
    per_worker: dict[str, float] = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker:
        per_worker["GPU"] = resources.gpus_per_worker
    trainer = TorchTrainer(
        _worker, train_loop_config=dict(assignment),
        torch_config=TorchConfig(backend="nccl" if resources.gpus_per_worker else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=resources.workers, use_gpu=bool(resources.gpus_per_worker),
            resources_per_worker=per_worker),
        run_config=ray.train.RunConfig(
            name=f"train-{assignment['id']}",
            storage_path=os.fspath(Path(assignment["folder"]).absolute()),
            failure_config=ray.train.FailureConfig(max_failures=assignment["max_restarts"]),
            callbacks=[TuneReportCallback()]))  # type: ignore[list-item, no-untyped-call]
    trainer.fit()


def _worker(assignment: dict[str, Any]) -> None:
    """The loop of one worker; all report equally often."""
    given: Assignment = assignment  # type: ignore[assignment]
    try:
        for report in _reports(given):
            ray.train.report(as_result(report))
    except Exception as error:
        ray.train.report(_failure(error, Path(given["folder"])))
