"""The Ray of a cluster, which the study joins."""

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

from study.execution.autoscaler import most_machines
from study.execution.local_ray import check_unused, log_quietly
from study.execution.placement import Cluster, worker_of
from study.execution.ray_settings import SETTINGS
from trainables.config import ResourcesConfig
from trainables.ray_trainable import POLL_SECONDS
from trainables.tasks import DATA_VARIABLE

ANSWER_TIMEOUT_SECONDS = 10.0
"""That a head is given to take a connection."""

WAIT_SECONDS = 2.0
"""For room on a cluster, before it is said that the study waits for it."""


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
    check_unused()
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
    log_quietly()
    try:
        yield JoinedRay(most_machines(say), say)
    finally:
        ray.shutdown()
