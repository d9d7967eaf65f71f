"""Rules for a RayJob of KubeRay.

Its schema is not checked here: ``kubectl create --dry-run=server`` asks the API server, which
knows the installed version.
"""

import json
from collections.abc import Iterator

from cluster.findings import Finding, Tree, at, check_filled, check_pinned
from trainables.config import SLOT
from trainables.configuration.schema import Place

CLUSTER: Place = ("spec", "rayClusterSpec")
"""Place of the cluster in a RayJob."""


def check_kuberay(tree: Tree) -> Iterator[Finding]:
    """Check access, permissions, and that the cluster ends with its job."""
    yield from check_filled(tree)
    if at(tree, *CLUSTER) is None:
        yield Finding(CLUSTER, "must describe the cluster", None, "Copy that of the shipped file.")
        return
    yield from _check_job(tree)
    yield from _check_doors(tree)
    for place in _pods(tree):
        yield from _check_pod(tree, place)
    yield from _check_head(tree)


def _check_job(tree: Tree) -> Iterator[Finding]:
    if at(tree, "spec", "shutdownAfterJobFinishes") is not True:
        yield Finding(
            ("spec", "shutdownAfterJobFinishes"),
            "must be true",
            at(tree, "spec", "shutdownAfterJobFinishes"),
            "Otherwise GPUs cost money until the cluster is deleted.",
        )


def _check_doors(tree: Tree) -> Iterator[Finding]:
    mode = at(tree, *CLUSTER, "authOptions", "mode")
    if mode != "token":
        yield Finding(
            (*CLUSTER, "authOptions", "mode"),
            "must be token",
            mode,
            "Without it, anyone who reaches a port can run commands in every pod.",
        )
    if at(tree, *CLUSTER, "networkPolicy", "mode") not in ("DenyAll", "DenyAllIngress"):
        yield Finding(
            (*CLUSTER, "networkPolicy", "mode"),
            "must be DenyAllIngress",
            at(tree, *CLUSTER, "networkPolicy", "mode"),
            "Other pods would reach Ray's ports.",
        )
    service = at(tree, *CLUSTER, "headGroupSpec", "serviceType")
    if service not in (None, "ClusterIP"):
        yield Finding(
            (*CLUSTER, "headGroupSpec", "serviceType"),
            "must be ClusterIP",
            service,
            "Reach the dashboard with kubectl port-forward.",
        )
    if at(tree, *CLUSTER, "headGroupSpec", "enableIngress"):
        yield Finding(
            (*CLUSTER, "headGroupSpec", "enableIngress"),
            "must be absent",
            True,
            "Reach the dashboard with kubectl port-forward.",
        )


def _pods(tree: Tree) -> Iterator[Place]:
    yield (*CLUSTER, "headGroupSpec", "template", "spec")
    for index, _ in enumerate(at(tree, *CLUSTER, "workerGroupSpecs") or []):
        yield (*CLUSTER, "workerGroupSpecs", index, "template", "spec")


def _check_pod(tree: Tree, place: Place) -> Iterator[Finding]:
    if at(tree, *place, "securityContext", "runAsNonRoot") is not True:
        yield Finding(
            (*place, "securityContext", "runAsNonRoot"),
            "must be true",
            at(tree, *place, "securityContext", "runAsNonRoot"),
            "The image's user has ID 1000 and needs no root rights.",
        )
    if not at(tree, *place, "serviceAccountName"):
        yield Finding(
            (*place, "serviceAccountName"),
            "must name a service account",
            None,
            "Create one that may write to the storage and nothing else.",
        )
    for index, container in enumerate(at(tree, *place, "containers") or []):
        inner = (*place, "containers", index)
        yield from check_pinned((*inner, "image"), at(container, "image"))
        if at(container, "securityContext", "allowPrivilegeEscalation") is not False:
            yield Finding(
                (*inner, "securityContext", "allowPrivilegeEscalation"),
                "must be false",
                at(container, "securityContext", "allowPrivilegeEscalation"),
                "Write allowPrivilegeEscalation: false.",
            )
        for secret in at(container, "env") or []:
            name = str(at(secret, "name")).upper()
            if at(secret, "value") and any(word in name for word in ("SECRET", "PASSWORD")):
                yield Finding(
                    (*inner, "env"),
                    "must hold no secret",
                    name,
                    "Use valueFrom/secretKeyRef, or give the service account the permission.",
                )


def _check_head(tree: Tree) -> Iterator[Finding]:
    place = (*CLUSTER, "headGroupSpec", "rayStartParams")
    parameters = at(tree, *place) or {}
    if parameters.get("num-cpus") != "0":
        yield Finding(
            (*place, "num-cpus"),
            "must be the text 0",
            parameters.get("num-cpus"),
            "Trials would starve the processes that run the study.",
        )
    try:  # the pod's shell removes the outer quotes
        resources = json.loads(json.loads(parameters.get("resources", '"{}"')))
    except (TypeError, ValueError):
        resources = None
    if not at(resources, SLOT):
        yield Finding(
            (*place, "resources"),
            f"must offer {SLOT}",
            parameters.get("resources"),
            "Otherwise multi-worker trials wait for it forever.",
        )
