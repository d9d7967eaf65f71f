"""The most that a joined cluster may become, by its autoscaler."""

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

from study.execution.placement import SHOWN, Cluster, Machines
from trainables.configuration.yaml_file import load_yaml

HEAD = "node:__internal_head__"
"""The resource by which Ray marks the head."""

JOIN_SECONDS = 120.0
"""That machines of a fixed cluster are given to join after its start."""

KUBERNETES = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""There in a pod."""


def most_machines(say: Callable[[str], None]) -> Cluster:
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
                    config = load_yaml(Path(value).expanduser())
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


def joined_cluster(
    head: Mapping[str, float],
    others: Sequence[Mapping[str, float]],
    autoscaling: Mapping[str, Any] | None = None,
) -> Cluster:
    """The most that a cluster may become.

    Args:
        head: Resources of the head.
        others: Those of each other machine that is there.
        autoscaling: The configuration of its autoscaler, as ``ray up`` takes it, with what
            machines of each type have; ``None`` for a cluster that stays as it is.
    """
    if autoscaling is not None and not num_awaited(autoscaling):
        limit = autoscaling.get("max_workers", 0)
        return Cluster(
            (Machines("head", head),),
            tuple(
                Machines(name, settings["resources"], min(limit, _most(autoscaling, name)))
                for name, settings in _types(autoscaling).items()
            ),
            limit,
        )
    kinds = Counter(tuple(each.get(name, 0) for name in SHOWN) for each in others)
    return Cluster(
        (
            Machines("head", head),
            *(
                Machines("node", dict(zip(SHOWN, kind, strict=True)), count)
                for kind, count in kinds.items()
            ),
        )
    )


def num_awaited(autoscaling: Mapping[str, Any]) -> int:
    """How many machines must have come before it is known what the cluster has.

    Of machines that are reached by ssh the configuration does not say it.
    """
    return sum(
        settings.get("min_workers", 0)
        for settings in _types(autoscaling).values()
        if not settings.get("resources")
    )


def _types(autoscaling: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The types of machines that there can be beside the head."""
    return {
        name: settings
        for name, settings in autoscaling["available_node_types"].items()
        if _most(autoscaling, name)
    }


def _most(autoscaling: Mapping[str, Any], name: str) -> int:
    """Machines of a type beside the head."""
    default = 0 if name == autoscaling["head_node_type"] else autoscaling.get("max_workers", 0)
    return int(autoscaling["available_node_types"][name].get("max_workers", default))
