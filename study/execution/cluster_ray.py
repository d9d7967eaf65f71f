"""Joins the Ray instance of a cluster that this machine belongs to."""

import study.execution.ray_settings  # noqa: F401 - before Ray

# isort: split
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from study.execution.autoscaler import largest_cluster
from study.execution.local_ray import check_unused, log_quietly
from study.execution.placement import Cluster, worker_resources
from study.execution.ray_settings import SETTINGS
from trainables.ray_trainable import POLL_SECONDS
from trainables.tasks import DATA_VARIABLE
from trainables.trial_config import ResourcesConfig

ANSWER_TIMEOUT_SECONDS = 10.0
"""Seconds that the head may take to accept a connection."""

NOTICE_SECONDS = 2.0
"""Seconds of waiting for machines after which the user is told."""


class JoinedRay:
    """A cluster's Ray instance; a :class:`study.execution.hosts.Host` that outlives the study.

    Args:
        cluster: Its machines, with those that its autoscaler may add.
        say: Shows a line to the user.
    """

    def __init__(self, cluster: Cluster, say: Callable[[str], None]) -> None:
        self.cluster = cluster
        self.say = say

    def running(self, num_slots: int) -> AbstractContextManager[Callable[[], None]]:
        """Start nothing: the instance is running."""
        return nullcontext(lambda: None)

    def call(
        self, resources: ResourcesConfig, function: Callable[..., None], *arguments: object
    ) -> None:
        """Call a function on a machine for trials, once there are machines for a whole trial.

        Raises:
            ValueError: The function raised it, or the connection to the cluster was lost.
        """
        worker = worker_resources(resources)
        try:
            with self._reserve(resources) as first_worker:
                ray.get(
                    ray.remote(
                        num_cpus=worker["CPU"],
                        num_gpus=worker.get("GPU", 0),
                        scheduling_strategy=first_worker,
                    )(function).remote(*arguments)
                )
        except RayTaskError as error:
            if isinstance(error.cause, ValueError):
                raise error.cause from None
            raise
        except RayError as error:
            raise ValueError(
                "the cluster was lost while the data were checked on it "
                f"({str(error).splitlines()[0].rstrip('.')}). Is it up?"
            ) from error

    @contextmanager
    def _reserve(self, resources: ResourcesConfig) -> Iterator[PlacementGroupSchedulingStrategy]:
        """Reserve resources for all workers of a trial; yield the place of the first one.

        A placement group requests all machines together, so that an autoscaler starts them at the
        same time. Tasks in turn would wait for one start after the other.
        """
        group = placement_group([worker_resources(resources)] * resources.workers)
        try:
            if not group.wait(NOTICE_SECONDS):
                self.say("Waiting for machines for the first trial …")
            yield PlacementGroupSchedulingStrategy(group, 0)
        finally:
            with suppress(RayError):  # the connection is lost, and the reservation with it
                remove_placement_group(group)


@contextmanager
def joined_ray(address: str, data: Path | None, say: Callable[[str], None]) -> Iterator[JoinedRay]:
    """Join the Ray instance of the cluster that this machine belongs to.

    Nothing needs to be cleaned up there, even if the study is killed: when this process
    disconnects, Ray ends its actors and releases their resources.

    Args:
        address: ``auto``, or ``HOST:PORT`` of the head.
        data: Download folder, as every machine sees it.
        say: Shows a line to the user.

    Raises:
        ValueError: This machine belongs to no such cluster.
    """
    check_unused()
    variables = {**SETTINGS, "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(POLL_SECONDS)}
    if data is not None:
        variables[DATA_VARIABLE] = str(data)
    try:
        if ":" in address:  # ray.init() would retry for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=ANSWER_TIMEOUT_SECONDS).close()
        ray.init(
            address=address,
            runtime_env={"env_vars": variables},
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except Exception as error:  # Ray raises many types, with messages of several lines
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ValueError(
            f"--address {address}: this machine belongs to no such Ray cluster ({reason}). From "
            "outside a cluster, give the address of its job server, http://HOST:8265, or "
            "--cluster."
        ) from error
    log_quietly()
    try:
        yield JoinedRay(largest_cluster(say), say)
    finally:
        ray.shutdown()
