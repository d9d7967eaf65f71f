"""The Ray that a study's trials run on: its own on this machine, or a cluster's that it joins."""

import study.execution.ray_settings  # noqa: F401 - before Ray

# isort: split
import logging
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import ray
import yaml
from filelock import FileLock, Timeout
from ray.autoscaler._private.util import prepare_config
from ray.exceptions import RayError, RayTaskError
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from study.execution.placement import Cluster, joined_cluster, num_awaited, worker_of
from study.execution.ray_settings import SETTINGS
from trainables.config import SLOT, ResourcesConfig
from trainables.ray_trainable import POLL_SECONDS
from trainables.tasks import DATA_VARIABLE

log = logging.getLogger(__name__)

SCRATCH_PREFIX = "s2r-"
"""Of the folders of Ray's own files; short, for the sockets in them."""

ACTOR_NAME = ":actor_name:"
"""How Ray marks a process's output."""

PROCESSES = ("TrialTrainable", "WorkersTrainable", "RayTrainWorker", "TrainController")
"""Those whose output the study's log keeps."""

GRACE_TIMEOUT_SECONDS = 0.3
"""Before Ray is started: bad data mostly show themselves sooner."""

MAX_LINES = 1000
"""Of each process's output that it keeps."""

HEAD = "node:__internal_head__"
"""The resource by which Ray marks the head."""

ANSWER_TIMEOUT_SECONDS = 10.0
"""That a head is given to take a connection."""

WAIT_SECONDS = 2.0
"""For room on a cluster, before it is said that the study waits for it."""

JOIN_SECONDS = 120.0
"""That machines of a fixed cluster are given to join after its start."""

KUBERNETES = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""There in a pod."""


class JoinedRay:
    """A cluster's Ray, which goes on without the study. See :class:`study.execution.hosts.Host`.

    Args:
        cluster: The most that it may become.
        say: Shows a line to the user.
    """

    def __init__(self, cluster: Cluster, say: Callable[[str], None]) -> None:
        self.cluster = cluster
        self.say = say

    def running(self, num_slots: int) -> AbstractContextManager[Callable[[], None]]:
        """It runs already."""
        return nullcontext(lambda: None)

    def call(
        self, resources: ResourcesConfig, function: Callable[..., None], *arguments: object
    ) -> None:
        """Calls a function where trials run, once there are machines for all workers of one.

        Raises:
            ValueError: The function raised it, or the cluster is gone.
        """
        worker = worker_of(resources)
        try:
            with self._room(resources) as room:
                ray.get(
                    ray.remote(
                        num_cpus=worker["CPU"],
                        num_gpus=worker.get("GPU", 0),
                        scheduling_strategy=room,
                    )(function).remote(*arguments)
                )
        except RayTaskError as error:
            if isinstance(error.cause, ValueError):
                raise error.cause from None
            raise
        except RayError as error:
            raise ValueError(
                "the cluster was lost while data were checked on it "
                f"({str(error).splitlines()[0].rstrip('.')}). Is it up?"
            ) from error

    @contextmanager
    def _room(self, resources: ResourcesConfig) -> Iterator[PlacementGroupSchedulingStrategy]:
        """Room for all workers of a trial, also on machines that come only now; the first's place.

        Asked for one after another, machines would take as long as all of their starts.
        """
        group = placement_group([worker_of(resources)] * resources.workers)
        try:
            if not group.wait(WAIT_SECONDS):
                self.say("Waiting for machines that take a trial …")
            yield PlacementGroupSchedulingStrategy(group, 0)
        finally:
            with suppress(RayError):
                remove_placement_group(group)


@contextmanager
def own_ray(num_cpus: int, num_slots: int) -> Iterator[Callable[[], None]]:
    """A Ray of this study's own on this machine, quiet, gone afterwards.

    It starts in the background, so that data can be opened meanwhile; and after a moment, in which
    the data may turn out to be no good.

    Args:
        num_cpus: CPU cores that trials may occupy.
        num_slots: Trials of several workers at a time.

    Yields:
        What waits until Ray runs. It raises a ``ValueError`` if Ray does not start.
    """
    _check_unused()
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = str(POLL_SECONDS)
    _remove_leftovers()
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX))
    over = threading.Event()

    def start() -> None:
        if not over.wait(GRACE_TIMEOUT_SECONDS):
            _start_ray(num_cpus, num_slots, scratch)

    with FileLock(scratch / "lock"), ThreadPoolExecutor(1) as background:
        started = background.submit(start)
        try:
            yield started.result
        finally:
            over.set()
            wait([started])
            ray.shutdown()
            _keep_output(scratch)
            shutil.rmtree(scratch, ignore_errors=True)


def _check_unused() -> None:
    if ray.is_initialized():
        raise ValueError(
            "a study starts or joins a Ray, and this process uses one already. "
            "Call ray.shutdown() first."
        )


def _start_ray(num_cpus: int, num_slots: int, scratch: Path) -> None:
    try:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            resources={SLOT: num_slots},
            include_dashboard=False,
            object_store_memory=200_000_000,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _temp_dir=str(scratch),
        )
    except Exception as error:
        raise ValueError(f"Ray does not start: {error}") from error
    _log_quietly()


def _log_quietly() -> None:
    """What Ray's loggers say goes to the root logger, that is to the study's log."""
    logger = logging.getLogger("ray")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.WARNING)
    logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)  # misses files we don't want


def _remove_leftovers() -> None:
    """Removes Ray's files of studies that were killed: nobody holds their locks."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*"):
        try:
            if (folder / "lock").exists():
                with FileLock(folder / "lock", timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):  # in use, or another user's
            continue


def _keep_output(scratch: Path) -> None:
    """Copies what the trials' processes printed into the study's log."""
    for path in sorted(scratch.glob("session_latest/logs/worker-*")):
        lines = path.read_text(errors="replace").splitlines()
        actor = next((line for line in lines if line.startswith(ACTOR_NAME)), "")
        printed = [line for line in lines if line and not line.startswith(":")]
        if printed and actor.removeprefix(ACTOR_NAME) in PROCESSES:
            log.info("%s:\n%s", path.name, "\n".join(printed[-MAX_LINES:]))


# A cluster


@contextmanager
def joined_ray(address: str, data: Path | None, say: Callable[[str], None]) -> Iterator[JoinedRay]:
    """The Ray of the cluster that this machine is part of.

    What the study leaves there, also when it is interrupted or killed, Ray removes when this
    process's connection ends: actors, and the room that was reserved for them.

    Args:
        address: ``auto``, or ``HOST:PORT`` of its head.
        data: The folder of downloads, as every machine sees it.
        say: Shows a line to the user.

    Raises:
        ValueError: There is no such cluster.
    """
    _check_unused()
    variables = {**SETTINGS, "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(POLL_SECONDS)}
    if data is not None:
        variables[DATA_VARIABLE] = str(data)
    try:
        if ":" in address:  # Ray would try for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=ANSWER_TIMEOUT_SECONDS).close()
        ray.init(
            address=address,
            runtime_env={"env_vars": variables},
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except Exception as error:  # of many types, and of several lines
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ValueError(
            f"--address {address}: this machine is part of no such cluster ({reason}). From "
            "elsewhere, give the address of its job server, http://HOST:8265, or --cluster."
        ) from error
    _log_quietly()
    try:
        yield JoinedRay(_most_machines(say), say)
    finally:
        ray.shutdown()


def _most_machines(say: Callable[[str], None]) -> Cluster:
    """What the cluster may become, by its autoscaler's configuration."""
    on_head = ray.remote(num_cpus=0, resources={HEAD: 0.001})(_autoscaling)
    autoscaling: dict[str, Any] | None = ray.get(on_head.remote())
    deadline = time.monotonic() + JOIN_SECONDS
    while autoscaling and (missing := num_awaited(autoscaling) - len(_machines()[1])) > 0:
        if time.monotonic() > deadline:
            say(f"{missing} machines have not joined. Going on without them.")
            break
        time.sleep(1)
    return joined_cluster(*_machines(), autoscaling)


def _machines() -> tuple[Mapping[str, float], list[Mapping[str, float]]]:
    """Resources of the head and of the others, as far as they have joined."""
    there = [
        node["Resources"]
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]
    head = next(each for each in there if HEAD in each)
    return head, [each for each in there if each is not head]


def _autoscaling() -> dict[str, Any] | None:
    """The configuration of a cluster's autoscaler, where this runs on the head.

    Ray reports it nowhere: on Kubernetes the operator's resource has it, elsewhere the file that
    the autoscaler's process was given.

    Returns:
        ``None`` if there is no autoscaler.
    """
    if "RAY_CLUSTER_NAME" in os.environ and KUBERNETES.exists():
        return _autoscaling_by_kuberay(os.environ["RAY_CLUSTER_NAME"], KUBERNETES.read_text())
    gcs = f"--gcs-address={ray.get_runtime_context().gcs_address}"
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = process.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # gone, or another user's
            continue
        if gcs in arguments:
            for argument in arguments:
                name, _, value = argument.partition("=")
                if name == "--autoscaling-config":
                    config = yaml.safe_load(Path(value).expanduser().read_text())
                    return dict(prepare_config(config))
    return None


def _autoscaling_by_kuberay(name: str, namespace: str) -> dict[str, Any] | None:
    """The same of a cluster that KubeRay's operator has started."""
    from ray.autoscaler._private.kuberay.autoscaling_config import (
        _derive_autoscaling_config_from_ray_cr,
    )
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    resource = KubernetesHttpApiClient(namespace=namespace).get(f"rayclusters/{name}")
    if not resource["spec"].get("enableInTreeAutoscaling"):
        return None
    return dict(_derive_autoscaling_config_from_ray_cr(resource))
