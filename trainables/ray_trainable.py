"""``run_trial`` as Ray trainables: in the Tune process, or in the workers of a TorchTrainer.

A one-worker trial runs inside Tune's own actor, which the next trial then uses again: Ray Train
would start nine processes for each (some 20 s of processor time). Trials of several workers go
through :class:`ray.train.torch.TorchTrainer`. Both take an :class:`TrialSpec` and give the same
results: a report, or that the trial failed, or that a worker of it was lost.
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
from trainables.config import SLOT, TrialConfig
from trainables.configuration.schema import validate
from trainables.runtime.distributed import Runtime, current_runtime, is_lost_connection
from trainables.training.report import Report
from trainables.training.trial import run_trial

log = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
"""Of a trial's process; what it prints is kept in the study's log."""

POLL_SECONDS = 0.5
"""Between the looks that Ray Train takes at a trial's workers."""

END_SECONDS = 60.0
"""That workers are given to end after they were told to."""

CONTINUE = "go on"
"""The order to workers that is not another trial or the end."""


class TrialSpec(TypedDict):
    """What a study hands to a trainable."""

    id: str
    """The trial's."""
    attempt: int
    """0, or how many workers the trial has lost."""
    trial: dict[str, Any]
    """Its configuration."""
    folder: str
    """Its own folder: where every node sees it, or a node's own beside a store."""
    cache: str
    """The folder that trials share, likewise."""
    store: str | None
    """The URI of the trial's folder in a store, which is then the one that lasts."""
    shared_store: str | None
    """Of what trials share there."""
    scratch: str
    """Where Ray Train may write what nobody reads; it makes no checkpoints, which all nodes would
    have to see."""


class TrialTrainable(tune.Trainable):
    """One trial at a time in this process."""

    reports: Generator[Report, None, None]

    def setup(self, config: TrialSpec) -> None:  # type: ignore[override]
        """Starts, or goes on with, a trial."""
        self.files = _files(config)
        self.reports = _reports(config)

    def reset_config(self, new_config: TrialSpec) -> bool:  # type: ignore[override]
        """Takes on the next trial."""
        self.reports.close()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Runs to the next report."""
        try:
            return as_result(next(self.reports))
        except StoreError as error:
            return as_loss(str(error))
        except Exception as error:
            return as_failure(_reason(error, self.files))

    def cleanup(self) -> None:
        """Lets go of the trial's data and networks."""
        self.reports.close()


def _files(assignment: TrialSpec) -> TrialFolder:
    store = assignment["store"]
    return TrialFolder(Path(assignment["folder"]), Store.open(store) if store else None)


def _stores(assignment: TrialSpec) -> Stores | None:
    own, shared = assignment["store"], assignment["shared_store"]
    return Stores(Store.open(own), Store.open(shared)) if own and shared else None


def _reports(
    assignment: TrialSpec, runtime: Runtime | None = None
) -> Generator[Report, None, None]:
    """Runs a trial. A node's own folder is removed afterwards: the store has what lasts."""
    logging.basicConfig(format=LOG_FORMAT)
    logging.getLogger("trainables").setLevel(logging.INFO)
    config = validate(TrialConfig, assignment["trial"])
    torch.set_num_threads(config.resources.cpus_per_worker)
    if runtime is None:  # Ray shows an actor no other GPU than its own
        runtime = Runtime(torch.device("cuda" if config.resources.gpus_per_worker else "cpu"))
    folder, stores = Path(assignment["folder"]), _stores(assignment)
    try:
        yield from run_trial(config, folder, Path(assignment["cache"]), runtime, stores)
    finally:
        if stores is not None:
            shutil.rmtree(folder, ignore_errors=True)


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


def _reason(error: Exception, files: TrialFolder) -> str:
    """Why a trial raised, in a line; the whole of it goes into the trial's folder.

    An error that leaves the GPU unusable ends the process instead: the trial is then tried again
    in a new one, and later trials are not drawn in.
    """
    text = "".join(traceback.format_exception(error))
    log.warning("%s", text)
    files.write_error(text)
    if torch.cuda.is_initialized():
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            os._exit(1)
    return f"{type(error).__name__}: {error}"


# Several workers


class WorkersTrainable(tune.Trainable):
    """One trial at a time by the workers of a TorchTrainer; this process waits for them.

    After each report the workers wait for an order: to go on, to take on the next trial, or to
    end. So they serve many trials, as the process of a one-worker trial does, and end by
    themselves. (To end this process instead, as one does with a function that reports through
    ``TuneReportCallback``, leaves the workers' CPUs and GPUs reserved: what should free them
    needs Ray's dashboard.)
    """

    def setup(self, config: TrialSpec) -> None:  # type: ignore[override]
        """Starts workers for a trial."""
        self.orders = Queue(actor_options={"num_cpus": 0})
        self.results = Queue(actor_options={"num_cpus": 0})
        self.is_under_way = False
        self.trainer = Thread(target=_train, args=(config, self.orders, self.results), daemon=True)
        self.trainer.start()

    def reset_config(self, new_config: TrialSpec) -> bool:  # type: ignore[override]
        """Gives the next trial to the workers, or to new ones if the last trial ended them."""
        if self.trainer.is_alive():
            self.is_under_way = False
            self.orders.put(new_config)
        else:
            self.cleanup()
            self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Waits for the next report."""
        if self.is_under_way:
            self.orders.put(CONTINUE)
        self.is_under_way = True
        result: dict[str, Any] = self.results.get()
        if report_of(result) is None:
            self.trainer.join()
        return result

    def cleanup(self) -> None:
        """Ends the workers."""
        self.orders.put(None)
        self.trainer.join(END_SECONDS)
        for queue in (self.orders, self.results):
            queue.shutdown(force=True)


class _TrialRaised(Exception):  # noqa: N818 - names what happened
    """An error of the trial's own, as text: not every error survives the way between processes."""


class _ConnectionLost(Exception):  # noqa: N818 - names what happened
    """Another worker cannot be reached, which says nothing against the trial."""


def _train(assignment: TrialSpec, orders: Queue, results: Queue) -> None:
    """Runs workers until they are told to end, a trial of theirs fails, or one of them is lost."""
    resources = validate(TrialConfig, assignment["trial"]).resources
    per_worker: dict[str, float] = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker:
        per_worker["GPU"] = resources.gpus_per_worker
    try:
        ray.train.torch.TorchTrainer(
            _worker,
            train_loop_config={"assignment": assignment, "orders": orders, "results": results},
            torch_config=ray.train.torch.TorchConfig(
                backend="nccl" if resources.gpus_per_worker else "gloo"
            ),
            scaling_config=ray.train.ScalingConfig(
                num_workers=resources.workers,
                use_gpu=bool(resources.gpus_per_worker),
                resources_per_worker=per_worker,
            ),
            run_config=ray.train.RunConfig(
                # A name that was used before would go on with that run.
                name=f"{assignment['id']}-{assignment['attempt']}",
                storage_path=assignment["scratch"],
                failure_config=ray.train.FailureConfig(  # type: ignore[call-arg]
                    controller_failure_limit=0
                ),
            ),
        ).fit()
    except ray.train.WorkerGroupError as error:
        results.put(_ending(list(error.worker_failures.values()), str(error)))
    except ray.train.TrainingFailedError as error:
        results.put(as_loss(str(error)))
    except Exception as error:  # the process that Ray Train controls them from is gone
        free_workers()
        results.put(as_loss(str(error)))


def _ending(errors: Sequence[Exception], text: str) -> dict[str, Any]:
    """The result of a trial whose workers ended with errors.

    The trial has failed if one of them met an error of its own and no worker is gone. Survivors of
    one that is gone mostly notice before Ray does, and then theirs are all the errors there are.
    """
    raised = [error for error in errors if isinstance(error, _TrialRaised)]
    are_all_alive = all(isinstance(error, (_TrialRaised, _ConnectionLost)) for error in errors)
    return as_failure(str(raised[0])) if raised and are_all_alive else as_loss(text)


def free_workers() -> None:
    """Frees what workers occupy after a process that was to do so is gone.

    The workers of other trials go with them, and start again where they were: it is rare.
    """
    own = ray.get_runtime_context().get_job_id()  # of a cluster that others use too
    for key, group in placement_group_table().items():
        if key.endswith(own) and not any(SLOT in each for each in group["bundles"].values()):
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(key))))


def _worker(given: dict[str, Any]) -> None:
    """What each worker does: one trial after another."""
    assignment: TrialSpec | None = given["assignment"]
    resources = validate(TrialConfig, given["assignment"]["trial"]).resources
    runtime = current_runtime(ray.train.torch.get_device(), resources.sync_batchnorm)
    while assignment is not None:
        files = _files(assignment)
        try:
            assignment = _run(assignment, given["orders"], given["results"], runtime)
        except StoreError:  # another worker may do better
            raise
        except Exception as error:
            if is_lost_connection(error):
                raise _ConnectionLost(str(error)) from None
            raise _TrialRaised(_reason(error, files)) from None


def _run(
    assignment: TrialSpec, orders: Queue, results: Queue, runtime: Runtime
) -> TrialSpec | None:
    """Runs a trial for as long as it is to go on; returns what is to be done next."""
    for report in _reports(assignment, runtime):
        order = None
        if runtime.is_main:  # metrics are over all workers already
            results.put(as_result(report))
            order = orders.get()
        order = runtime.broadcast_object(order)
        if order != CONTINUE:
            break
    return order
