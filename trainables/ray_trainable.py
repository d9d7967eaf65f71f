"""``run_trial`` as Ray trainables: in Tune's actor, or in the workers of a TorchTrainer.

A trial of one worker runs inside Tune's actor, which is reused for the next trial: Ray Train would
start nine processes for each, some 20 s of processor time. A trial of several workers runs in
those of a :class:`ray.train.torch.TorchTrainer`. Both trainables take a :class:`TrialSpec` and
return the same results: a report, or that the trial failed, or that one of its workers was lost.
"""

import json
import logging
import os
import shutil
import traceback
from collections.abc import Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import Any, TypedDict

import ray
import ray.train
import ray.train.torch
import torch
from ray import PlacementGroupID, tune
from ray.util import placement_group_table, remove_placement_group
from ray.util.placement_group import PlacementGroup
from ray.util.queue import Queue

from trainables.checkpointing.object_store import Store, StoreError, Stores
from trainables.checkpointing.trial_folder import TrialFolder
from trainables.configuration.schema import validate
from trainables.runtime.distributed import Runtime, current_runtime, is_lost_connection
from trainables.training.report import Report
from trainables.training.trial import run_trial
from trainables.trial_config import SLOT, TrialConfig

log = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
"""Format of log lines in a trial's process; Ray forwards them to the study's log."""

POLL_SECONDS = 0.5
"""Interval at which Ray Train polls the workers of a trial."""

END_SECONDS = 60.0
"""Time that workers are given to end after the order to do so."""

CONTINUE = "continue"
"""The order to continue; another is the next :class:`TrialSpec`, or ``None`` to end."""


class TrialSpec(TypedDict):
    """What a study passes to a trainable."""

    id: str
    """Id of the trial."""
    attempt: int
    """Number of workers that the trial has lost so far."""
    trial: dict[str, Any]
    """Configuration of the trial."""
    folder: str
    """The trial's folder, which all nodes share or, with a store, is on one node only."""
    cache: str
    """The folder that trials share, likewise on all nodes or on one."""
    store: str | None
    """URI of the trial's folder in an object store, which then is the one that lasts."""
    shared_store: str | None
    """URI of the folder in the store that trials share."""
    scratch: str
    """A folder for Ray Train's own files, which nothing reads. Trials save their checkpoints
    themselves: for those of Ray Train, all nodes would have to share a folder."""


class TrialTrainable(tune.Trainable):
    """A trainable that runs one trial at a time in its own process."""

    reports: Generator[Report, None, None]

    def setup(self, config: TrialSpec) -> None:  # type: ignore[override]
        """Start or resume a trial."""
        self.files = _files(config)
        self.reports = _reports(config)

    def reset_config(self, new_config: TrialSpec) -> bool:  # type: ignore[override]
        """Replace the trial by the next one; Tune then reuses this actor."""
        self.reports.close()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Run to the next report and return it as a result."""
        try:
            return as_result(next(self.reports))
        except StoreError as error:
            return as_loss(str(error))
        except Exception as error:
            return as_failure(_reason(error, self.files))

    def cleanup(self) -> None:
        """Release the trial's data and networks."""
        self.reports.close()


def _files(spec: TrialSpec) -> TrialFolder:
    store = spec["store"]
    return TrialFolder(Path(spec["folder"]), Store.open(store) if store else None)


def _stores(spec: TrialSpec) -> Stores | None:
    own, shared = spec["store"], spec["shared_store"]
    return Stores(Store.open(own), Store.open(shared)) if own and shared else None


def _reports(spec: TrialSpec, runtime: Runtime | None = None) -> Generator[Report, None, None]:
    """Yield the reports of a trial; with a store, remove the local folder afterwards."""
    logging.basicConfig(format=LOG_FORMAT)
    logging.getLogger("trainables").setLevel(logging.INFO)
    config = validate(TrialConfig, spec["trial"])
    torch.set_num_threads(config.resources.cpus_per_worker)
    if runtime is None:  # plain "cuda": Ray hides other actors' GPUs from this process
        runtime = Runtime(torch.device("cuda" if config.resources.gpus_per_worker else "cpu"))
    folder, stores = Path(spec["folder"]), _stores(spec)
    try:
        yield from run_trial(config, folder, Path(spec["cache"]), runtime, stores)
    finally:
        if stores is not None:
            shutil.rmtree(folder, ignore_errors=True)


# Results in the form that Tune takes. A report is text, since Tune flattens dictionaries.


def as_result(report: Report) -> dict[str, Any]:
    """Return the result of an evaluation."""
    return {"report": json.dumps(asdict(report)), "done": report.finished}


def as_failure(reason: str) -> dict[str, Any]:
    """Return the result of a trial that failed for a reason of its own; it is not tried again."""
    return {"failed": reason, "done": True}


def as_loss(cause: str) -> dict[str, Any]:
    """Return the result of a trial that lost a worker; it can be resumed with new ones."""
    return {"lost": cause, "done": True}


def report_of(result: dict[str, Any]) -> Report | None:
    """Return the report in a result from Tune, or ``None`` if the result is another one."""
    return Report(**json.loads(result["report"])) if "report" in result else None


def _reason(error: Exception, files: TrialFolder) -> str:
    """Return in one line why a trial failed, and write the traceback to the trial's folder."""
    text = "".join(traceback.format_exception(error))
    log.warning("%s", text)
    files.write_error(text)
    if torch.cuda.is_initialized():
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            # The GPU's context is unusable, and every later trial of this process would fail. If
            # the process ends instead, Ray starts a new one, in which this trial is tried again.
            os._exit(1)
    return f"{type(error).__name__}: {error}"


# Several workers


class WorkersTrainable(tune.Trainable):
    """A trainable that runs one trial at a time in the workers of a TorchTrainer.

    After each report the workers wait for an order: to continue, to begin the next trial, or to
    end. So they are reused like the process of a one-worker trial, and end by themselves. The
    usual way, a function trainable that reports through ``TuneReportCallback``, is ended by
    killing its process, which leaves the workers' CPUs and GPUs reserved: Ray frees those only
    with its dashboard.
    """

    def setup(self, config: TrialSpec) -> None:  # type: ignore[override]
        """Start workers for a trial."""
        self.orders = Queue(actor_options={"num_cpus": 0})
        self.results = Queue(actor_options={"num_cpus": 0})
        self.has_begun = False
        self.trainer = Thread(target=_train, args=(config, self.orders, self.results), daemon=True)
        self.trainer.start()

    def reset_config(self, new_config: TrialSpec) -> bool:  # type: ignore[override]
        """Pass the next trial to the workers, or to new ones if the last trial ended them."""
        if self.trainer.is_alive():
            self.has_begun = False
            self.orders.put(new_config)
        else:
            self.cleanup()
            self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Wait for the next result of the workers."""
        if self.has_begun:
            self.orders.put(CONTINUE)
        self.has_begun = True
        result: dict[str, Any] = self.results.get()
        if report_of(result) is None:
            self.trainer.join()
        return result

    def cleanup(self) -> None:
        """End the workers."""
        self.orders.put(None)
        self.trainer.join(END_SECONDS)
        for queue in (self.orders, self.results):
            queue.shutdown(force=True)


class _TrialRaised(Exception):  # noqa: N818 - names what happened
    """An error of the trial itself, as text: not every error can be sent between processes."""


class _ConnectionLost(Exception):  # noqa: N818 - names what happened
    """Another worker cannot be reached, for which the trial is not to blame."""


def _train(spec: TrialSpec, orders: Queue, results: Queue) -> None:
    """Run workers until they are ordered to end, a trial fails, or one of them is lost."""
    resources = validate(TrialConfig, spec["trial"]).resources
    per_worker: dict[str, float] = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker:
        per_worker["GPU"] = resources.gpus_per_worker
    try:
        ray.train.torch.TorchTrainer(
            _worker,
            train_loop_config={"spec": spec, "orders": orders, "results": results},
            torch_config=ray.train.torch.TorchConfig(
                backend="nccl" if resources.gpus_per_worker else "gloo"
            ),
            scaling_config=ray.train.ScalingConfig(
                num_workers=resources.workers,
                use_gpu=bool(resources.gpus_per_worker),
                resources_per_worker=per_worker,
            ),
            run_config=ray.train.RunConfig(
                # Under a name that was used before, Ray Train would resume that run.
                name=f"{spec['id']}-{spec['attempt']}",
                storage_path=spec["scratch"],
                failure_config=ray.train.FailureConfig(  # type: ignore[call-arg]
                    controller_failure_limit=0
                ),
            ),
        ).fit()
    except ray.train.WorkerGroupError as error:
        results.put(_ending(list(error.worker_failures.values()), str(error)))
    except ray.train.TrainingFailedError as error:
        results.put(as_loss(str(error)))
    except Exception as error:  # Ray Train's controller, which would free the workers, is lost
        free_workers()
        results.put(as_loss(str(error)))


def _ending(errors: Sequence[Exception], text: str) -> dict[str, Any]:
    """Return the result of a trial whose workers ended with errors.

    The trial failed if a worker raised an error of the trial's own and none is lost. When one is
    lost, the others usually notice before Ray does, so that their lost connections may be all the
    errors there are.

    Args:
        errors: The errors of the workers, as far as Ray knows.
        text: Ray's message.
    """
    raised = [error for error in errors if isinstance(error, _TrialRaised)]
    are_all_alive = all(isinstance(error, (_TrialRaised, _ConnectionLost)) for error in errors)
    return as_failure(str(raised[0])) if raised and are_all_alive else as_loss(text)


def free_workers() -> None:
    """Remove this study's placement groups, after the process that should have is lost.

    This ends the workers of other trials, too, which then resume from their checkpoints. It is
    rare, and nothing tells which group belongs to which trial.
    """
    own = ray.get_runtime_context().get_job_id()  # other jobs may use the same cluster
    for key, group in placement_group_table().items():
        if key.endswith(own) and not any(SLOT in each for each in group["bundles"].values()):
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(key))))


def _worker(given: dict[str, Any]) -> None:
    """Run one trial after another; the function that each worker executes."""
    spec: TrialSpec | None = given["spec"]
    resources = validate(TrialConfig, given["spec"]["trial"]).resources
    runtime = current_runtime(ray.train.torch.get_device(), resources.sync_batchnorm)
    while spec is not None:
        files = _files(spec)
        try:
            spec = _run(spec, given["orders"], given["results"], runtime)
        except StoreError:  # counts as a lost worker: the store may be reachable from another node
            raise
        except Exception as error:
            if is_lost_connection(error):
                raise _ConnectionLost(str(error)) from None
            raise _TrialRaised(_reason(error, files)) from None


def _run(spec: TrialSpec, orders: Queue, results: Queue, runtime: Runtime) -> TrialSpec | None:
    """Run a trial until the order is not to continue, and return that order."""
    for report in _reports(spec, runtime):
        order = None
        if runtime.is_main:  # its metrics are those of all workers
            results.put(as_result(report))
            order = orders.get()
        order = runtime.broadcast_object(order)
        if order != CONTINUE:
            break
    return order
