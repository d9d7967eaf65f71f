"""The complete description of a study: a space file with its defaults filled in."""

import os
import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from study.search.pruners import PRUNERS, NoPrunerConfig
from study.search.samplers import SAMPLERS, CmaEsConfig, resolve
from study.spaces.conditions import METHOD, Conditions
from study.spaces.search_space import SearchSpace
from study.storage.study_folder import StudyFolder
from trainables.config import CriterionChoice, TrialConfig
from trainables.configuration.paths import Resolved, absolute_path, is_relative, resolve_paths
from trainables.configuration.schema import (
    BaseConfig,
    Choice,
    ConfigError,
    OneOf,
    Place,
    Problem,
    default_choice,
    join,
    nearest,
    shorten,
    validate,
)
from trainables.configuration.yaml_file import YamlFile, parse_yaml, read_yaml
from trainables.criteria import CRITERIA, RankAverage

Cost = Literal["cpu_seconds", "seconds"]
"""Processor time of a trial over all its workers, or its wall-clock time."""

Joint = Literal["mean", "mean_rank"]
"""How a search on several tasks at once puts what a trial is worth on each together."""


def _check_task(value: object) -> object:
    if not isinstance(value, (str, dict)):
        raise ValueError(
            f"must be the name of a task, or one name with its settings, got {shorten(value)}."
        )
    return value


TaskValue = Annotated[str | dict[str, Any], BeforeValidator(_check_task)]


class StudyConfig(BaseConfig):
    """What a space file says."""

    task: TaskValue | None = None
    """The data: a task's name, or its name with settings. Required, or ``tasks``."""
    tasks: list[TaskValue] | None = None
    """In the place of ``task``, several, each once: a study of each, one after the other, unless
    the search is ``joint``."""
    joint: Joint | None = None
    """One search on all ``tasks``, each of whose trials runs on every one of them, for the
    configuration that does well on all: maximised is the ``mean`` over tasks of the criterion, or
    ``mean_rank``, that of the rank among all evaluations on the task, for criteria whose scales
    differ between tasks. A trial that does not learn one task's source is below all that do.
    Null: a search of each task."""
    criterion: CriterionChoice = default_choice(CRITERIA, "bnm")
    """What is maximised over trials and over each trial's checkpoints: one criterion, or
    ``{rank_average: {criteria: [bnm, snd]}}``. Only ``oracle`` reads target labels."""
    cost: Cost | None = None
    """What is minimised beside it, over trials: the sampler searches the Pareto front of both, and
    the study ends with its trials; null: nothing. Winners remain those by the criterion. On GPUs
    take ``seconds``."""
    num_trials: PositiveInt = 32
    """Trials of the search; final runs come on top."""
    time_limit: str | None = None
    """For how long trials are drawn: ``90m``, ``2h``, ``1d12h``; null: without end. Those under
    way at the end of it run to theirs, and final runs follow."""
    epoch_limit: PositiveFloat | None = None
    """Epochs that the search's trials may train together, those of trials that were stopped or
    failed included; pre-training and final runs come on top."""
    concurrency: PositiveInt | Literal["auto"] = "auto"
    """Trials at a time; ``auto``: as many as the machines have room for."""
    sampler: Annotated[Choice[BaseConfig], OneOf(SAMPLERS)] = default_choice(SAMPLERS, "tpe")
    """How values are drawn."""
    pruner: Annotated[Choice[BaseConfig], OneOf(PRUNERS)] = default_choice(PRUNERS, "asha")
    """Which trials are stopped early. A trial is compared with those of its own condition."""
    compare_by: str | list[str] = METHOD
    """Path, or list of paths, of the searched choices whose options are compared: each
    combination of them is a condition with its own budget, winner, final runs and row in the
    table. An empty list compares nothing."""
    equal_budget: bool = True
    """Give each condition the same number of trials, in turn; otherwise the sampler chooses
    conditions as it chooses everything else."""
    seed: int = 0
    """Of the search and of its trials; final runs use the seeds after it."""
    final_seeds: NonNegativeInt = 3
    """Fresh seeds on which each condition's winner runs again; 0: no final runs."""
    share_records: bool = True
    """Take over the figures of trials of the same configuration from other studies in the same
    folder, instead of training again, where code, packages and data were the same."""
    max_restarts: NonNegativeInt = 3
    """How often a trial whose worker was lost goes on from its checkpoint before it fails."""
    directory: str | None = None
    """Folder that relative paths in the space start from; null: the current directory, which
    ``study.yaml`` then names."""
    fixed: dict[str, Any] = {}
    """Settings of all trials."""
    search: dict[str, Any]
    """Settings that are searched."""

    @field_validator("concurrency", mode="before")
    @classmethod
    def _check_concurrency(cls, value: object) -> object:
        if value != "auto" and (type(value) is not int or value < 1):
            raise ValueError(f"must be auto or an integer above 0, got {shorten(value)}.")
        return value

    @field_validator("compare_by", mode="before")
    @classmethod
    def _check_compare_by(cls, value: object) -> object:
        paths = [value] if isinstance(value, str) else value
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise ValueError(
                "must be the path of a searched choice, such as method or "
                f"task/digits, or a list of paths, got {shorten(value)}."
            )
        return value

    @field_validator("time_limit", mode="before")
    @classmethod
    def _check_time_limit(cls, value: object) -> object:
        if value is not None:
            parse_duration(value)
        return value

    def check_cost(self) -> None:
        """Checks that sampler and pruner go with a second objective.

        Raises:
            ConfigError: One does not.
        """
        if self.cost is None:
            return
        problems = []
        if isinstance(self.sampler.config, CmaEsConfig):
            problems.append(
                "cma_es has one objective only. Choose sampler auto, gp, random or tpe."
            )
        if not isinstance(self.pruner.config, NoPrunerConfig):
            problems.append(
                f"needs pruner none, got {self.pruner.name}: stopping by the "
                "criterion alone would end cheap trials that belong to the front."
            )
        if problems:
            raise ConfigError([Problem(("cost",), text) for text in problems])

    @model_validator(mode="after")
    def _check_tasks(self) -> Self:
        if self.tasks is None:
            if self.task is None:
                raise ConfigError(
                    [
                        Problem(
                            ("task",), ("is required and missing; tasks, a list, takes several.")
                        )
                    ]
                )
            return self
        if self.task is not None:
            raise ConfigError([Problem(("tasks",), "is given beside task; keep one.")])
        if not self.tasks:
            raise ConfigError([Problem(("tasks",), "must hold at least one task, got [].")])
        names = [_name_of(task) for task in self.tasks]
        again = [i for i, name in enumerate(names) if name in names[:i]]
        if again:
            raise ConfigError(
                [
                    Problem(
                        ("tasks", i),
                        (
                            f"'{names[i]}' is given twice; another study of it takes a space of "
                            f"its own."
                        ),
                    )
                    for i in again
                ]
            )
        return self

    @model_validator(mode="after")
    def _check_joint(self) -> Self:
        if self.joint is None:
            return self
        problems = []
        if self.tasks is None or len(self.tasks) < 2:
            problems.append(
                Problem(
                    ("joint",),
                    (
                        f"{self.joint} is over tasks, and needs at least two of them: tasks: "
                        f"[s2rda49, "
                        "s2rda_ms39]."
                    ),
                )
            )
        if self.cost is not None:
            problems.append(
                Problem(
                    ("cost",),
                    (
                        "is of one task and has no meaning where the search is joint. Leave out "
                        "cost or "
                        "joint."
                    ),
                )
            )
        if problems:
            raise ConfigError(problems)
        return self

    @property
    def task_names(self) -> tuple[str, ...]:
        """The name of a study's task, or those of a joint search."""
        return tuple(map(_name_of, self._task_values()))

    def _task_values(self) -> list[TaskValue]:
        if self.tasks is not None:
            return self.tasks
        assert self.task is not None
        return [self.task]

    @property
    def objective_name(self) -> str:
        """What the search maximises, in few words."""
        return f"{self.joint} of {self.criterion.name}" if self.joint else self.criterion.name

    @property
    def ranks_trials(self) -> bool:
        """Whether what a trial is worth depends on the others."""
        return self.joint == "mean_rank" or isinstance(self.criterion.config, RankAverage.Config)

    def on_each_task(self, config: TrialConfig) -> list[Resolved[TrialConfig]]:
        """What runs in a trial: what was drawn, on every task of a joint search."""
        configs = [config]
        if self.joint is not None:
            tasks = [validate(TrialConfig, {"task": task}).task for task in self._task_values()]
            configs = [config.model_copy(update={"task": task}) for task in tasks]
        return [resolve_paths(each, self._base()) for each in configs]

    def _base(self) -> str:
        """What relative paths start from."""
        return absolute_path(self.directory or "", os.getcwd())

    def relative_paths(self, space: SearchSpace) -> dict[str, str]:
        """Paths in the trials of its space that depend on a directory, by place."""
        return {
            place: text
            for config in space.probe_configs()
            for run in self.on_each_task(config)
            for place, text in run.written.items()
            if is_relative(text)
        }

    def located(self, space: SearchSpace) -> Self:
        """The same study wherever it is read; names its directory if it has relative paths."""
        directory = self._base() if self.relative_paths(space) else None
        return self.model_copy(update={"directory": directory})

    def studies(self) -> "list[StudyConfig]":
        """The study of each task by itself."""
        return [
            self.model_copy(update={"task": task, "tasks": None, "joint": None})
            for task in self._task_values()
        ]

    def conditions(self, space: SearchSpace) -> Conditions:
        """What is compared in the study's space.

        Raises:
            ConfigError: ``compare_by`` names something else than searched choices.
        """
        return Conditions.parse(self.compare_by, space)

    def space(self) -> SearchSpace:
        """The space of one task's trials; ``task``, ``criterion`` and ``seed`` count as fixed.

        Settings of the task, below its name, may be searched. Of a joint search, it is the space
        of the trials on the first task; :meth:`on_each_task` makes the others.

        Raises:
            ConfigError: A value in it is wrong.
        """
        first = self._task_values()[0]
        task = {first: {}} if isinstance(first, str) else first
        own: dict[str, Any] = {"task": task, "seed": self.seed}
        parts = {"fixed": self.fixed, "search": self.search}
        places = [
            (part, *keys)
            for part in parts
            for keys in (("task",), ("seed",), ("criterion",), ("selection", "criterion"))
        ]
        taken = [place for place in places if _holds(parts, place) and place != ("search", "task")]
        if taken:
            raise ConfigError(
                [
                    Problem(place, f"is set by '{place[-1]}' at the top of a space.")
                    for place in taken
                ]
            )
        criterion = self.model_dump(mode="json")["criterion"]
        selection = self.fixed.get("selection", {})
        if isinstance(selection, dict):
            selection = {**selection, "criterion": criterion}
        return SearchSpace.parse({**own, **self.fixed, "selection": selection}, self.search)


def _name_of(task: str | dict[str, Any]) -> str:
    return task if isinstance(task, str) else next(iter(task), "")


def parse_duration(text: object) -> float:
    """The seconds of ``90m``, ``2h`` or ``1d12h``.

    Raises:
        ValueError: It is no such text, or no time at all.
    """
    match = re.fullmatch(
        "".join(rf"(?:(\d+(?:\.\d+)?)\s*{unit}\s*)?" for unit in "dhms"), str(text).strip()
    )
    numbers = [float(number or 0) for number in match.groups()] if match else [0.0]
    seconds = sum(
        number * unit for number, unit in zip(numbers, (86400, 3600, 60, 1), strict=False)
    )
    if not seconds:
        raise ValueError(f"must be a time such as 90m, 2h or 1d12h, got {shorten(text)}.")
    return seconds


def _holds(tree: Any, place: Place) -> bool:
    """Whether nested mappings have something at ``place``."""
    for key in place:
        if not isinstance(tree, dict) or key not in tree:
            return False
        tree = tree[key]
    return True


def shipped_spaces() -> dict[str, Path]:
    """The spaces that come with the project, by name."""
    folder = Path(str(resources.files("search_spaces")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def question_of(path: Path) -> str:
    """A space's question: the comment in its first lines, up to the first indented line."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("# ") or line.startswith("#   "):
            break
        lines.append(line.removeprefix("# ").strip())
    return " ".join(lines)


def read_study(name: str, overrides: list[str]) -> tuple[StudyConfig, SearchSpace]:
    """Reads a space of one task; see :func:`read_studies`."""
    studies = read_studies(name, overrides)
    if len(studies) > 1:
        names = [study.task_names[0] for study, _ in studies]
        raise ValueError(
            f"{name}: tasks: must be a single one here, got {', '.join(names)}. "
            f"Choose by --set tasks=[{names[0]}]."
        )
    return studies[0]


def read_studies(name: str, overrides: list[str]) -> list[tuple[StudyConfig, SearchSpace]]:
    """Reads a space by name or file and applies ``section.key=value`` overrides.

    Returns:
        The study of each of its tasks, or the joint one of all.

    Raises:
        ValueError: One line a problem, each with file, line, place, rule and value.
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
    """What a study was to be.

    Raises:
        ValueError: The folder holds no study; in one line.
    """
    folder = study_folder.root
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder.")
    if not study_folder.space.exists():
        raise ValueError(
            f"{folder}: not a study's folder, which would hold a study.yaml. Give a "
            "folder that study.run has made, such as runs/digits."
        )
    try:
        return validate(StudyConfig, parse_yaml(study_folder.space.read_text()))
    except ValueError as error:
        reason = "; ".join(" ".join(line.split()) for line in str(error).splitlines())
        raise ValueError(f"{study_folder.space}: not a study ({reason}).") from error


def parse_studies(file: YamlFile, overrides: list[str]) -> list[tuple[StudyConfig, SearchSpace]]:
    """The studies that a file describes; see :func:`read_studies`."""
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


def _checked_space(study: StudyConfig) -> SearchSpace:
    space = study.space()
    study.conditions(space)
    resolve(study.sampler, space, study.num_trials)
    study.check_cost()
    return space


def _as_written(place: Place, task: Place, file: YamlFile) -> Place:
    """The place in the file, whose task stands at the top and counts as fixed."""
    is_task = place[:2] == ("fixed", "task") and not _holds(file.content, place[:2])
    return (*task, *place[2:]) if is_task else place


def _where(place: Place, changed: list[tuple[str, ...]], file: YamlFile) -> str:
    """Who gave the value at ``place``: ``file:line`` or ``--set``."""
    given = any(
        place[: len(other)] == other or (place == other[: len(place)] and place not in file.lines)
        for other in changed
    )
    return "--set" if given else file.where(place)


def _override(content: dict[str, Any], text: str) -> tuple[str, ...]:
    """Applies one ``section.key=value``; the value is YAML."""
    path, separator, value = text.partition("=")
    keys = tuple(path.strip().split("."))
    if not separator or not all(keys):
        raise ValueError(f"--set {text}: must be section.key=value.")
    try:
        parsed = _parse_value(value)
    except ValueError as error:
        raise ValueError(f"--set {text}: {error}") from error
    target = content
    for key in keys[:-1]:
        inner = target.get(key)
        if isinstance(inner, str):  # a bare name: `backbone: small_cnn`
            inner = {inner: {}}
        if inner is not None and not isinstance(inner, dict):
            raise ValueError(f"--set {text}: '{key}' is {inner!r}, which has no keys.")
        target[key] = inner if inner is not None else {}
        target = target[key]
    target[keys[-1]] = parsed
    return keys


def _parse_value(text: str) -> Any:
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise ValueError("the value is not YAML.") from error
