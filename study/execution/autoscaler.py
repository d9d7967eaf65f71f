"""The machines of a joined cluster, with those that its autoscaler may add."""

import study.execution.ray_settings  # noqa: F401 - before Ray

# isort: split
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.autoscaler._private.util import prepare_config

from study.execution.placement import RESOURCES, Cluster, Machines
from trainables.configuration.yaml_file import load_yaml

HEAD = "node:__internal_head__"
"""Resource by which Ray marks the head."""

JOIN_TIMEOUT_SECONDS = 120.0
"""Seconds that the machines of a fixed cluster may take to join."""

KUBERNETES = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""File that exists in every pod and contains its namespace."""


def largest_cluster(say: Callable[[str], None]) -> Cluster:
    """Return the cluster with all machines that its autoscaler may add.

    Args:
        say: Shows a line to the user.
    """
    on_head = ray.remote(num_cpus=0, resources={HEAD: 0.001})(_autoscaling)
    autoscaling: dict[str, Any] | None = ray.get(on_head.remote())
    deadline = time.monotonic() + JOIN_TIMEOUT_SECONDS
    while autoscaling and (missing := num_awaited(autoscaling) - len(_machines()[1])) > 0:
        if time.monotonic() > deadline:
            say(f"{missing} machines have not joined the cluster. The study runs without them.")
            break
        time.sleep(1)
    return joined_cluster(*_machines(), autoscaling)


def _machines() -> tuple[Mapping[str, float], list[Mapping[str, float]]]:
    """Return the resources of the head, and of every other machine that has joined."""
    there = [
        node["Resources"]
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]
    head = next(each for each in there if HEAD in each)
    return head, [each for each in there if each is not head]


def _autoscaling() -> dict[str, Any] | None:
    """Read the configuration of the cluster's autoscaler; must run on the head.

    No API of Ray returns it. On Kubernetes the operator's resource contains it, elsewhere the file
    that the command line of the autoscaler's process names.

    Returns:
        ``None`` if there is no autoscaler.
    """
    if "RAY_CLUSTER_NAME" in os.environ and KUBERNETES.exists():
        return _autoscaling_by_kuberay(os.environ["RAY_CLUSTER_NAME"], KUBERNETES.read_text())
    gcs = f"--gcs-address={ray.get_runtime_context().gcs_address}"
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = process.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has ended, or is another user's
            continue
        if gcs in arguments:
            for argument in arguments:
                name, _, value = argument.partition("=")
                if name == "--autoscaling-config":
                    config = load_yaml(Path(value).expanduser())
                    return dict(prepare_config(config))
    return None


def _autoscaling_by_kuberay(name: str, namespace: str) -> dict[str, Any] | None:
    """Read the configuration from the resource of KubeRay's operator."""
    from ray.autoscaler._private.kuberay.autoscaling_config import (
        _derive_autoscaling_config_from_ray_cr,
    )
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    resource = KubernetesHttpApiClient(namespace=namespace).get(f"rayclusters/{name}")
    if not resource["spec"].get("enableInTreeAutoscaling"):
        return None
    return dict(_derive_autoscaling_config_from_ray_cr(resource))


def joined_cluster(
    head: Mapping[str, float],
    others: Sequence[Mapping[str, float]],
    autoscaling: Mapping[str, Any] | None = None,
) -> Cluster:
    """Return a cluster with all machines that it has or may add.

    Args:
        head: Resources of the head.
        others: Resources of each other machine that has joined.
        autoscaling: Configuration of the autoscaler in the format of ``ray up``, with the
            resources of each type of machine; ``None`` for a cluster without one.
    """
    if autoscaling is not None and not num_awaited(autoscaling):
        limit = autoscaling.get("max_workers", 0)
        return Cluster(
            (Machines("head", head),),
            tuple(
                Machines(name, settings["resources"], min(limit, _max_workers(autoscaling, name)))
                for name, settings in _worker_types(autoscaling).items()
            ),
            limit,
        )
    # Without an autoscaler, or if it only starts Ray on machines that exist: count what is there.
    kinds = Counter(tuple(each.get(name, 0) for name in RESOURCES) for each in others)
    return Cluster(
        (
            Machines("head", head),
            *(
                Machines("node", dict(zip(RESOURCES, kind, strict=True)), count)
                for kind, count in kinds.items()
            ),
        )
    )


def num_awaited(autoscaling: Mapping[str, Any]) -> int:
    """Return how many machines must join before the resources of the cluster are known.

    For machines that are reached by ssh, the configuration does not contain them.
    """
    return sum(
        settings.get("min_workers", 0)
        for settings in _worker_types(autoscaling).values()
        if not settings.get("resources")
    )


def _worker_types(autoscaling: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the types of machines that may be added to the head."""
    return {
        name: settings
        for name, settings in autoscaling["available_node_types"].items()
        if _max_workers(autoscaling, name)
    }


def _max_workers(autoscaling: Mapping[str, Any], name: str) -> int:
    """Return the maximum number of machines of a type, without the head."""
    default = 0 if name == autoscaling["head_node_type"] else autoscaling.get("max_workers", 0)
    return int(autoscaling["available_node_types"][name].get("max_workers", default))
