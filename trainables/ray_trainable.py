"""``run_trial`` as Ray trainables: in the Tune process, or in the workers of a TorchTrainer.

A one-worker trial runs inside Tune's own actor, which the next trial then uses again: Ray Train
would start nine processes for each (some 20 s of processor time). Trials of several workers go
through :class:`ray.train.torch.TorchTrainer`. Both take an :class:`Assignment` and give the same
results: a report, or that the trial failed, or that a worker of it was lost.
"""

import json
import logging
import os
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import Any, TypedDict

import ray.train
import ray.train.torch
import torch
from ray import tune
from ray.util.queue import Queue

from trainables.checkpoint import write_atomically
from trainables.config import TrialConfig
from trainables.runtime import current_runtime
from trainables.schema import validate
from trainables.trial import Report, TrialFailed, run_trial

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""Between the looks that Ray Train takes at a trial's workers."""


class Assignment(TypedDict):
    """What a study hands to a trainable."""

    id: str
    """The trial's."""
    attempt: int
    """0, or how many workers the trial has lost."""
    trial: dict[str, Any]
    """Its configuration."""
    folder: str
    """Its own folder, on storage that every worker sees."""
    cache: str
    """The folder that trials share."""
    scratch: str
    """Where Ray Train may write what nobody reads, on such storage too."""


class TrialTrainable(tune.Trainable):
    """One trial at a time in this process."""

    reports: Iterator[Report]

    def setup(self, config: Assignment) -> None:  # type: ignore[override]
        """Starts, or goes on with, a trial."""
        self.folder = Path(config["folder"])
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
            return as_failure(_reason(error, self.folder))

    def cleanup(self) -> None:
        """Lets go of the trial's data and networks."""
        self.reports = iter(())


def _reports(assignment: Assignment, device: torch.device | None = None) -> Iterator[Report]:
    config = validate(TrialConfig, assignment["trial"])
    torch.set_num_threads(config.resources.cpus_per_worker)
    if device is None:  # Ray shows an actor no other GPU than its own
        device = torch.device("cuda", 0) if config.resources.gpus_per_worker \
            else torch.device("cpu")
    runtime = current_runtime(device)
    yield from run_trial(config, Path(assignment["folder"]), Path(assignment["cache"]), runtime)


# Results as Tune carries them: a report as text, since Tune flattens dictionaries

def as_result(report: Report) -> dict[str, Any]:
    """A result that is a report."""
    return {"report": json.dumps(asdict(report)), "done": report.finished}


def as_failure(reason: str) -> dict[str, Any]:
    """The result of a trial that trying again would not help."""
    return {"failed": reason, "done": True}


def as_loss(cause: str) -> dict[str, Any]:
    """The result of a trial that can go on with new workers."""
    return {"lost": cause, "done": True}


def report_of(result: dict[str, Any]) -> Report | None:
    """The report in a result of Tune's, if it is one."""
    return Report(**json.loads(result["report"])) if "report" in result else None


def _reason(error: Exception, folder: Path) -> str:
    """Why a trial raised, in a line; the whole of it goes into the trial's folder.

    An error that leaves the GPU unusable ends the process instead: the trial is then tried again
    in a new one, and later trials are not drawn in.
    """
    text = "".join(traceback.format_exception(error))
    log.warning("%s", text)
    write_atomically(folder / "error.txt", text.encode())
    if torch.cuda.is_initialized():
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            os._exit(1)
    return f"{type(error).__name__}: {error}"


# Several workers

class WorkersTrainable(tune.Trainable):
    """One trial by the workers of a TorchTrainer; this process waits for them.

    (The usual function that reports through ``TuneReportCallback`` cannot tell the loss of a
    worker from an error of the trial, and cannot report either without a race.)
    """

    def setup(self, config: Assignment) -> None:  # type: ignore[override]
        """Starts, or goes on with, a trial."""
        self.results = Queue(actor_options={"num_cpus": 0})
        Thread(target=_run_workers, args=(config, self.results), daemon=True).start()

    def step(self) -> dict[str, Any]:
        """Waits for the next report."""
        result: dict[str, Any] = self.results.get()
        return result


class _TrialRaised(Exception):  # noqa: N818 - names what happened
    """An error of the trial's own, as text: not every error survives the way between processes."""


class _Forward(ray.train.UserCallback):
    """Brings worker 0's reports to the trainable; metrics are over all workers already."""

    def __init__(self, results: Queue) -> None:
        self.results = results

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
                     ) -> None:
        """All workers have reported."""
        self.results.put(metrics[0])


def _run_workers(assignment: Assignment, results: Queue) -> None:
    """Runs the workers to the end of the trial or of one of them."""
    resources = validate(TrialConfig, assignment["trial"]).resources
    per_worker: dict[str, float] = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker:
        per_worker["GPU"] = resources.gpus_per_worker
    try:
        ray.train.torch.TorchTrainer(
            _worker, train_loop_config=dict(assignment),
            torch_config=ray.train.torch.TorchConfig(
                backend="nccl" if resources.gpus_per_worker else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=resources.workers, use_gpu=bool(resources.gpus_per_worker),
                resources_per_worker=per_worker),
            run_config=ray.train.RunConfig(
                # A name that was used before would go on with that run.
                name=f"{assignment['id']}-{assignment['attempt']}",
                storage_path=assignment["scratch"],
                callbacks=[_Forward(results)]),  # type: ignore[list-item]
        ).fit()
    except ray.train.WorkerGroupError as error:
        raised = [e for e in error.worker_failures.values() if isinstance(e, _TrialRaised)]
        results.put(as_failure(str(raised[0])) if len(raised) == len(error.worker_failures)
                    else as_loss(str(error)))
    except Exception as error:
        results.put(as_loss(str(error)))


def _worker(assignment: dict[str, Any]) -> None:
    """The loop of one worker; all report equally often."""
    given: Assignment = assignment  # type: ignore[assignment]
    try:
        for report in _reports(given, ray.train.torch.get_device()):
            ray.train.report(as_result(report))
    except Exception as error:
        if not isinstance(error, (TrialFailed, ValueError)):
            # It may come of another worker's death: let Ray Train see that first.
            time.sleep(4 * POLL_SECONDS)
        raise _TrialRaised(_reason(error, Path(given["folder"]))) from None
