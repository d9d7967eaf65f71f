"""Where trials run: this machine, or a Ray cluster.

Ray is imported only when it is needed: ``--list`` and ``--dry-run`` import this module too.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

from rich.console import Console

from study.execution.placement import Cluster, this_machine
from study.execution.provenance import available_cpus
from trainables.trial_config import ResourcesConfig


class Host(Protocol):
    """A Ray instance that trials run on."""

    cluster: Cluster
    """The machines that it has or may add."""

    def running(self, num_slots: int) -> AbstractContextManager[Callable[[], None]]:
        """Start Ray with ``num_slots`` multi-worker slots, and shut it down at the end.

        Yields:
            A callable that blocks until Ray is up.
        """

    def call(
        self, resources: ResourcesConfig, function: Callable[..., None], *arguments: object
    ) -> None:
        """Call a function on a machine that can run a trial with these resources."""


class ThisMachine:
    """This machine, with a Ray instance that lives as long as the study."""

    def __init__(self) -> None:
        self.cluster = this_machine()

    def running(self, num_slots: int) -> AbstractContextManager[Callable[[], None]]:
        """Start a Ray instance of the study's own, in the background."""
        from study.execution.local_ray import own_ray

        return own_ray(available_cpus(), num_slots)

    def call(
        self, resources: ResourcesConfig, function: Callable[..., None], *arguments: object
    ) -> None:
        """Call a function in this process, which needs no Ray for it."""
        function(*arguments)


def open_host(
    address: str | None, data: Path | None, console: Console
) -> AbstractContextManager[Host]:
    """Return the host of a study.

    Args:
        address: ``auto`` or ``HOST:PORT`` of a Ray cluster; ``None`` for this machine.
        data: Download folder that the cluster's trials use; ``None`` for their own default.
        console: Shows messages about the cluster.
    """
    if address is None:
        return nullcontext(ThisMachine())
    from study.execution.cluster_ray import joined_ray

    return joined_ray(
        address,
        data,
        lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True),
    )
