"""Changes that make a hole in a file that ships, and where the hole is found."""

from collections.abc import Callable
from typing import Any

import yaml

from cluster.check import findings_of
from cluster.findings import at
from tests.cluster.files import filled

Change = Callable[[Any], object]
WORKER = "available_node_types/worker/node_config"
HEAD = "available_node_types/head/node_config"


def put(place: str, value: object) -> Change:
    *keys, last = [int(key) if key.isdigit() else key for key in place.split("/")]

    def change(tree: Any) -> None:
        at(tree, *keys)[last] = value

    return change


def drop(place: str) -> Change:
    *keys, last = place.split("/")
    return lambda tree: at(tree, *[int(k) if k.isdigit() else k for k in keys]).pop(last)


def replace(place: str, old: str, new: str) -> Change:
    keys = [int(key) if key.isdigit() else key for key in place.split("/")]

    def change(tree: Any) -> None:
        text = at(tree, *keys)
        assert old in text
        at(tree, *keys[:-1])[keys[-1]] = text.replace(old, new)

    return change


def places(name: str, change: Change) -> list[str]:
    """Where something is found after a change; aliases are taken apart first."""
    tree = yaml.safe_load(filled(name))
    tree = yaml.safe_load(yaml.dump(tree, Dumper=_NoAliases))
    change(tree)
    return ["/".join(map(str, finding.place)) for finding in findings_of(tree)]


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True
