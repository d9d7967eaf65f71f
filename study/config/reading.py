"""Readers of space files, of ``--set`` overrides and of stored studies."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from study.config.study_config import StudyConfig, holds, with_present_names
from study.search.samplers import resolve
from study.spaces.search_space import SearchSpace
from study.storage.study_folder import StudyFolder
from trainables.configuration.former_keys import (
    former_places,
    present_path,
    present_place,
    warn_of_former_name,
)
from trainables.configuration.schema import ConfigError, Place, Problem, join, nearest, validate
from trainables.configuration.yaml_file import YamlFile, parse_yaml, read_yaml


def shipped_spaces() -> dict[str, Path]:
    """Return the paths of the spaces that ship with the project, by name."""
    folder = Path(str(resources.files("search_spaces")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def question_of(path: Path) -> str:
    """Return a space's question: its leading comment, up to the first indented line."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("# ") or line.startswith("#   "):
            break
        lines.append(line.removeprefix("# ").strip())
    return " ".join(lines)


def read_study(name: str, overrides: list[str]) -> tuple[StudyConfig, SearchSpace]:
    """Read a space that holds a single study, like :func:`read_studies`.

    Raises:
        ValueError: The space holds several studies or breaks a rule.
    """
    studies = read_studies(name, overrides)
    if len(studies) > 1:
        names = [study.task_names[0] for study, _ in studies]
        raise ValueError(
            f"{name}: tasks: must be a single task here, got {', '.join(names)}. "
            f"Choose one with --set tasks=[{names[0]}]."
        )
    return studies[0]


def read_studies(name: str, overrides: list[str]) -> list[tuple[StudyConfig, SearchSpace]]:
    """Read a space by name or file and apply ``section.key=value`` overrides.

    Returns:
        One study per task, or a single joint one, each with its search space.

    Raises:
        ValueError: The space breaks a rule. The message has a line per problem, each with file,
            line, place, rule and value.
    """
    path = shipped_spaces().get(name)
    if path is None:
        path = Path(name)
        if not path.exists():
            raise ValueError(
                f"no space or file named '{name}'.{nearest(name, list(shipped_spaces()))}"
            )
    file = read_yaml(path)
    return parse_studies(file, overrides)


def read_config(study_folder: StudyFolder) -> StudyConfig:
    """Read the settings of a stored study.

    Raises:
        ValueError: The folder holds no study; the message is one line.
    """
    folder = study_folder.root
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder.")
    if not study_folder.space.exists():
        raise ValueError(
            f"{folder}: not a study's folder: it has no study.yaml. Give a folder that study.run "
            "has created, such as runs/digits."
        )
    try:
        return validate(StudyConfig, parse_yaml(study_folder.space.read_text()))
    except ValueError as error:
        reason = "; ".join(" ".join(line.split()) for line in str(error).splitlines())
        raise ValueError(f"{study_folder.space}: not a study ({reason}).") from error


def parse_studies(file: YamlFile, overrides: list[str]) -> list[tuple[StudyConfig, SearchSpace]]:
    """Parse the content of a space file, like :func:`read_studies`."""
    file = _with_present_keys(file)
    changed = [_override(file.content, text) for text in overrides]
    studies, problems = [], []
    try:
        whole = validate(StudyConfig, file.content)
        for index, study in enumerate(whole.studies()):
            try:
                studies.append((study, _checked_space(study)))
            except ConfigError as error:
                own = ("task",) if file.content.get("tasks") is None else ("tasks", index)
                problems += [
                    Problem(_as_written(p.place, own, file), p.message) for p in error.problems
                ]
        if whole.joint is not None:
            studies = [(whole, space) for _, space in studies[:1]]
    except ConfigError as error:
        problems = error.problems
    if problems:
        raise ValueError(
            "\n".join(
                dict.fromkeys(
                    f"{_where(problem.place, changed, file)}: {join(problem.place)}: "
                    f"{problem.message}"
                    for problem in problems
                )
            )
        ) from ConfigError(problems)
    return studies


def _with_present_keys(file: YamlFile) -> YamlFile:
    """Return the file with former names of settings replaced, after a warning for each."""
    for place in _former_names(file.content):
        warn_of_former_name(file.where(place), str(place[-1]))
    try:
        content = with_present_names(file.content)
    except ConfigError as error:
        lines = [f"{file.where(p.place)}: {join(p.place)}: {p.message}" for p in error.problems]
        raise ValueError("\n".join(lines)) from error
    present = {present_place(place): line for place, line in file.lines.items()}
    return YamlFile(file.path, content, present)


def _former_names(settings: dict[str, Any]) -> Iterator[Place]:
    """Yield the places of former names, of which the last key is one; also in ``compare_by``."""
    yield from former_places(settings)
    compared = settings.get("compare_by")
    for path in compared if isinstance(compared, list) else [compared]:
        if isinstance(path, str) and present_path(path) != path:
            yield "compare_by", path.rpartition("/")[2]


def _checked_space(study: StudyConfig) -> SearchSpace:
    space = study.space()
    study.conditions(space)
    resolve(study.sampler, space, study.num_trials)
    study.check_cost()
    return space


def _as_written(place: Place, task: Place, file: YamlFile) -> Place:
    """Return the place in the file, which has the task at its top level, not under ``fixed``."""
    is_task = place[:2] == ("fixed", "task") and not holds(file.content, place[:2])
    return (*task, *place[2:]) if is_task else place


def _where(place: Place, changed: list[tuple[str, ...]], file: YamlFile) -> str:
    """Return the origin of the value at ``place``: ``file:line`` or ``--set``."""
    given = any(
        place[: len(other)] == other or (place == other[: len(place)] and place not in file.lines)
        for other in changed
    )
    return "--set" if given else file.where(place)


def _override(content: dict[str, Any], text: str) -> tuple[str, ...]:
    """Apply one ``section.key=value``, whose value is YAML; return the keys."""
    path, separator, value = text.partition("=")
    keys = tuple(path.strip().split("."))
    if not separator or not all(keys):
        raise ValueError(f"--set {text}: must be section.key=value.")
    try:
        parsed = _parse_value(value)
    except ValueError as error:
        raise ValueError(f"--set {text}: {error}") from error
    keys, parsed = _present_override(text, keys, parsed)
    target = content
    for key in keys[:-1]:
        inner = target.get(key)
        if isinstance(inner, str):  # a bare name: `backbone: small_cnn`
            inner = {inner: {}}
        if inner is not None and not isinstance(inner, dict):
            raise ValueError(f"--set {text}: '{key}' is {inner!r} and has no keys.")
        target[key] = inner if inner is not None else {}
        target = target[key]
    target[keys[-1]] = parsed
    return keys


def _present_override(text: str, keys: tuple[str, ...], value: Any) -> tuple[tuple[str, ...], Any]:
    """Return the keys and value of an override with former names replaced, after a warning."""
    settings: Any = value
    for key in reversed(keys):
        settings = {key: settings}
    for place in _former_names(settings):
        warn_of_former_name(f"--set {text}", str(place[-1]))
    try:
        settings = with_present_names(settings)
    except ConfigError as error:
        raise ValueError(f"--set {text}: {error}") from error
    present = []
    for _ in keys:
        ((key, settings),) = settings.items()
        present.append(key)
    return tuple(present), settings


def _parse_value(text: str) -> Any:
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise ValueError("the value is not YAML.") from error
