"""Rules for a RayJob of KubeRay.

The schema itself is checked by the API server: ``kubectl create --dry-run=server``.
"""

import json
from collections.abc import Iterator

from cluster.findings import Finding, Tree, at, check_filled, check_pinned
from trainables.configuration.schema import Place
from trainables.trial_config import SLOT

CLUSTER: Place = ("spec", "rayClusterSpec")


def check_kuberay(tree: Tree) -> Iterator[Finding]:
    """Check the job, access from outside, permissions of pods, and resources of the head."""
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
            "GPUs would be paid for until somebody looks.",
        )


def _check_doors(tree: Tree) -> Iterator[Finding]:
    mode = at(tree, *CLUSTER, "authOptions", "mode")
    if mode != "token":
        yield Finding(
            (*CLUSTER, "authOptions", "mode"),
            "must be token",
            mode,
            "Without it, whoever reaches a port runs commands in every pod.",
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
            "Reach the dashboard by kubectl port-forward.",
        )
    if at(tree, *CLUSTER, "headGroupSpec", "enableIngress"):
        yield Finding(
            (*CLUSTER, "headGroupSpec", "enableIngress"),
            "must be absent",
            True,
            "Reach the dashboard by kubectl port-forward.",
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
            "The image's user is 1000 and needs no more.",
        )
    if not at(tree, *place, "serviceAccountName"):
        yield Finding(
            (*place, "serviceAccountName"),
            "must name a service account",
            None,
            "Make one that may write to the storage, and no more.",
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
                    "Name it by valueFrom/secretKeyRef, or give the service account the right.",
                )


def _check_head(tree: Tree) -> Iterator[Finding]:
    place = (*CLUSTER, "headGroupSpec", "rayStartParams")
    parameters = at(tree, *place) or {}
    if parameters.get("num-cpus") != "0":
        yield Finding(
            (*place, "num-cpus"),
            "must be the text 0",
            parameters.get("num-cpus"),
            "Trials would starve the processes that lead the study.",
        )
    try:  # the shell in the pod removes the outer quotes
        resources = json.loads(json.loads(parameters.get("resources", '"{}"')))
    except (TypeError, ValueError):
        resources = None
    if not at(resources, SLOT):
        yield Finding(
            (*place, "resources"),
            f"must offer {SLOT}",
            parameters.get("resources"),
            "Without it, multi-worker trials wait forever.",
        )
