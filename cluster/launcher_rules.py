"""Rules for configurations of ``ray up`` that apply to every provider."""

import contextlib
import copy
import io
import json
import logging
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import ray.autoscaler
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster.findings import Finding, Tree, at, check_filled, check_pinned, texts
from trainables.configuration.schema import Place
from trainables.trial_config import SLOT

LOOPBACK = ("127.0.0.1", "localhost", "::1")

SECRET = re.compile(
    r"(?i)\b(?!RAY_AUTH_TOKEN_PATH)\w*(TOKEN|SECRET|PASSWORD|ACCESS_KEY)\w*=(?!\$)\S"
)
"""Matches an assignment of a literal secret; ``NAME=$VARIABLE`` is allowed."""

ACCESS_KEY = re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b")

STARTS = {"head": "head_start_ray_commands", "worker": "worker_start_ray_commands"}


@dataclass(frozen=True)
class RayStart:
    """A ``ray start`` command with its environment and flags."""

    place: Place
    text: str
    environment: dict[str, str]
    flags: dict[str, str]


def check_launcher(tree: Tree) -> Iterator[Finding]:
    """Check Ray's schema, the commands, the token and secrets."""
    problems = list(_check_schema(tree))
    yield from problems
    yield from check_filled(tree)
    if problems:  # the checks below rely on the schema
        return
    for role, key in STARTS.items():
        yield from _check_starts(tree, role, key)
    yield from _check_token(tree)
    yield from _check_secrets(tree)
    yield from check_pinned(("docker", "image"), at(tree, "docker", "image"))


# Ray's own rules


def _check_schema(tree: Tree) -> Iterator[Finding]:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    tree = copy.deepcopy(tree)
    for node_type in (at(tree, "available_node_types") or {}).values():
        if isinstance(node_type, dict):  # Ray fills it in, by asking AWS
            node_type.setdefault("resources", {})
    validator = jsonschema.Draft7Validator(schema)
    errors = sorted(validator.iter_errors(tree), key=lambda error: list(map(str, error.path)))
    for error in errors:
        yield Finding(
            tuple(error.absolute_path),
            f"against Ray's schema: {error.message}",
            error.instance,
            "Compare with the shipped file.",
        )
    if tree["provider"]["type"] == "local":
        for key in ("head_ip", "worker_ips"):
            if not at(tree, "provider", key):
                yield Finding(
                    ("provider", key),
                    "must name the machines",
                    None,
                    "Give the head's address, and a list of the others'.",
                )
                return
    if errors:
        return
    with _silence():
        try:
            validate_config(prepare_config(tree))
        except jsonschema.ValidationError as error:
            problem: str | None = error.message
        except Exception as error:  # Ray raises many types
            problem = str(error) or type(error).__name__
        else:
            problem = None
    if problem is not None:
        yield Finding(
            (),
            f"Ray refuses it: {problem}",
            tree.get("cluster_name"),
            "Compare with the shipped file.",
        )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppress messages of Ray about how it completes the configuration."""
    logger = logging.getLogger("ray.autoscaler")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


# Commands


def _starts(tree: Tree, key: str) -> list[RayStart]:
    """Return the ``ray start`` commands of a role."""
    found = []
    exported: dict[str, str] = {}
    for index, text in enumerate(at(tree, key) or []):
        for words in _simple_commands(text):
            own = dict(exported)
            is_export = words[:1] == ["export"]
            words = words[1:] if is_export else words
            while words and re.match(r"\w+=", words[0]):
                name, _, value = words.pop(0).partition("=")
                own[name] = value
            if is_export:
                exported = own
            if words[:2] == ["ray", "start"]:
                found.append(RayStart((key, index), text, own, _flags(words[2:])))
    return found


def _simple_commands(text: str) -> list[list[str]]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    try:
        for word in lexer:
            if set(word) <= set(";&|"):
                commands.append([])
            else:
                commands[-1].append(word)
    except ValueError:  # an unterminated quotation
        return []
    return commands


def _flags(words: list[str]) -> dict[str, str]:
    flags = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            flags[name] = value if equals or following.startswith("--") else following
    return flags


def _check_starts(tree: Tree, role: str, key: str) -> Iterator[Finding]:
    starts = _starts(tree, key)
    if len(starts) != 1:
        yield Finding(
            (key,),
            f"must start Ray on a {role} once",
            at(tree, key),
            "Copy the commands of the shipped file.",
        )
        return
    start = starts[0]
    if start.environment.get("RAY_AUTH_MODE") != "token":
        yield Finding(
            start.place,
            "must turn token authentication on",
            start.text,
            "Begin with RAY_AUTH_MODE=token: without it, whoever reaches a port runs "
            "commands on every node.",
        )
    if role == "worker":
        return
    if start.flags.get("--dashboard-host") not in LOOPBACK:
        yield Finding(
            start.place,
            "must keep the dashboard on loopback",
            start.text,
            "Add --dashboard-host=127.0.0.1 and open it through a tunnel.",
        )
    if not at(_resources(start), SLOT):
        yield Finding(
            start.place,
            f"must offer the resource {SLOT}",
            start.text,
            f"""Add --resources='{{"{SLOT}": 8}}': without it, multi-worker trials wait """
            "forever.",
        )
    if tree["provider"]["type"] == "aws" and start.flags.get("--num-cpus") != "0":
        yield Finding(
            start.place,
            "must offer no CPU on the head",
            start.text,
            "Add --num-cpus=0: trials would starve the processes that lead the study.",
        )


def _resources(start: RayStart) -> object:
    try:
        return json.loads(start.flags.get("--resources", "{}"))
    except ValueError:
        return None


def _check_token(tree: Tree) -> Iterator[Finding]:
    mounts = at(tree, "file_mounts") or {}
    shipped = [str(target).rstrip("/") for target in mounts]
    if not any(target.endswith(("/.ray", "/.ray/auth_token")) for target in shipped):
        yield Finding(
            ("file_mounts",),
            "must bring the token to the nodes",
            mounts,
            "Add ~/.ray: ~/.ray; without it Ray refuses to start there.",
        )
    commands = [
        text
        for key in ("setup_commands", "initialization_commands")
        for text in at(tree, key) or []
    ]
    if not any("chmod 600" in text and "auth_token" in text for text in commands):
        yield Finding(
            ("setup_commands",),
            "must hide the token from a node's other users",
            at(tree, "setup_commands"),
            "Add chmod 600 ~/.ray/auth_token.",
        )


def _check_secrets(tree: Tree) -> Iterator[Finding]:
    for place, text in texts(tree):
        if SECRET.search(text) or ACCESS_KEY.search(text):
            yield Finding(
                place,
                "must hold no secret",
                "a text with one",
                "It would be in logs and process lists. Machines get their rights from "
                "instance profiles, and the token from file_mounts.",
            )
    if at(tree, "provider", "aws_credentials") is not None:
        yield Finding(
            ("provider", "aws_credentials"),
            "must be absent",
            "keys",
            "Ray copies this file to the head. Use AWS's own configuration here and an "
            "instance profile there.",
        )
    for target, source in (at(tree, "file_mounts") or {}).items():
        if re.search(r"/\.(aws|ssh|kube)(/|$)", str(source)):
            yield Finding(
                ("file_mounts", target),
                "must bring no keys to the nodes",
                source,
                "Remove it; nodes get their rights from instance profiles.",
            )
