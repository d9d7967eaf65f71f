"""The Ray that trials run on: this machine's, or a cluster's."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

from rich.console import Console

from study.execution.environment import available_cpus
from study.execution.placement import Cluster, this_machine
from trainables.config import ResourcesConfig


class Host(Protocol):
    """The Ray that trials run on."""

    cluster: Cluster
    """The machines that it has, or may get."""

    def running(self, num_slots: int) -> AbstractContextManager[Callable[[], None]]:
        """Starts it, for so many trials of several workers at a time; yields what waits for it."""

    def call(
        self, resources: ResourcesConfig, function: Callable[..., None], *arguments: object
    ) -> None:
        """Calls a function where trials run that occupy such resources."""


class _OwnRay:
    """One that begins and ends with the study, on this machine; see :class:`Host`."""

    def __init__(self) -> None:
        self.cluster = this_machine()

    def running(self, num_slots: int) -> AbstractContextManager[Callable[[], None]]:
        from study.execution.local_ray import own_ray

        return own_ray(available_cpus(), num_slots)

    def call(
        self, resources: ResourcesConfig, function: Callable[..., None], *arguments: object
    ) -> None:
        function(*arguments)


def open_host(
    address: str | None, data: Path | None, console: Console
) -> AbstractContextManager[Host]:
    """Open the Ray at an address, or this machine's if there is none."""
    if address is None:
        return nullcontext(_OwnRay())
    from study.execution.cluster_ray import joined_ray

    return joined_ray(
        address,
        data,
        lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True),
    )
