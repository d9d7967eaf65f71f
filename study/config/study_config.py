"""The settings of a study: a space file with its defaults filled in."""

import os
import re
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
from study.search.samplers import SAMPLERS, CmaEsConfig
from study.spaces.conditions import METHOD, Conditions
from study.spaces.search_space import SearchSpace
from trainables.configuration.former_keys import present_path, with_present_keys
from trainables.configuration.paths import Resolved, absolute_path, is_relative, resolve_paths
from trainables.configuration.schema import (
    BaseConfig,
    Choice,
    ConfigError,
    OneOf,
    Place,
    Problem,
    default_choice,
    shorten,
    validate,
)
from trainables.criteria import CRITERIA, RankAverage
from trainables.trial_config import CriterionChoice, TrialConfig

Cost = Literal["cpu_seconds", "seconds"]
"""A trial's processor time over all its workers, or its wall-clock time, both in seconds."""

Joint = Literal["mean", "mean_rank"]
"""How a joint search combines a trial's scores on its tasks."""


def _check_task(value: object) -> object:
    if not isinstance(value, (str, dict)):
        raise ValueError(
            f"must be the name of a task, or one name with its settings, got {shorten(value)}."
        )
    return value


TaskValue = Annotated[str | dict[str, Any], BeforeValidator(_check_task)]


def with_present_names(settings: Any) -> Any:
    """Return a study's settings with former names replaced, also in ``compare_by``.

    Raises:
        ConfigError: A setting is given by both names.
    """
    present = with_present_keys(settings)
    if isinstance(present, dict):
        paths = present.get("compare_by")
        if isinstance(paths, str):
            present["compare_by"] = present_path(paths)
        elif isinstance(paths, list):
            present["compare_by"] = [
                present_path(path) if isinstance(path, str) else path for path in paths
            ]
    return present


class StudyConfig(BaseConfig):
    """The settings of a study, as a space file gives them."""

    task: TaskValue | None = None
    """The data: a task's name, or its name with settings. Required unless ``tasks`` is given."""
    tasks: list[TaskValue] | None = None
    """Several distinct tasks instead of ``task``: one study per task, one after the other, unless
    ``joint`` is set."""
    joint: Joint | None = None
    """One search for the configuration that does well on all ``tasks``: each trial runs on every
    task. Maximised is the ``mean`` of the criterion over tasks, or ``mean_rank``, the mean of its
    rank among all evaluations on each task, for criteria whose scales differ between tasks. A
    trial that fails to learn the source of any task ranks below all trials that learn every
    source. Null: a separate search for each task."""
    criterion: CriterionChoice = default_choice(CRITERIA, "bnm")
    """The objective, maximised over trials and over each trial's checkpoints: one criterion, or
    ``{rank_average: {criteria: [bnm, snd]}}``. Only ``oracle`` reads target labels."""
    cost: Cost | None = None
    """A second objective, minimised over trials: processor time (``cpu_seconds``) or wall-clock
    time (``seconds``, the right one on GPUs). The sampler then searches the Pareto front of both,
    which the study's summary lists; winners are still chosen by the criterion alone. Null: no
    second objective."""
    num_trials: PositiveInt = 32
    """Number of trials in the search; final runs are additional."""
    time_limit: str | None = None
    """Time during which new trials start, such as ``90m``, ``2h`` or ``1d12h``. Trials that are
    running when it ends are completed, and final runs follow. Null: no limit."""
    epoch_limit: PositiveFloat | None = None
    """Total number of epochs that trials of the search may train, including those that were
    stopped early or failed; pre-training and final runs are additional. Null: no limit."""
    concurrency: PositiveInt | Literal["auto"] = "auto"
    """Number of trials that run at the same time; ``auto``: as many as fit on the machines."""
    sampler: Annotated[Choice[BaseConfig], OneOf(SAMPLERS)] = default_choice(SAMPLERS, "tpe")
    """The algorithm that draws values."""
    pruner: Annotated[Choice[BaseConfig], OneOf(PRUNERS)] = default_choice(PRUNERS, "asha")
    """The rule that stops trials early. A trial is compared only with trials of its own
    condition."""
    compare_by: str | list[str] = METHOD
    """Path, or list of paths, of the searched choices to compare: each combination of their
    options is a condition with its own budget, winner, final runs and row in the table. An empty
    list compares nothing."""
    equal_budget: bool = True
    """Give each condition the same number of trials, in turn; if false, the sampler chooses
    conditions like any other value."""
    seed: int = 0
    """Random seed of the search and of its trials; final runs use the seeds that follow it."""
    final_seeds: NonNegativeInt = 3
    """Number of fresh seeds on which each condition's winner is trained again; 0: no final
    runs."""
    share_records: bool = True
    """Reuse results of trials with the same configuration from other studies in the same folder,
    instead of training again, if code, packages and data were the same."""
    max_restarts: NonNegativeInt = 3
    """Number of times that a trial resumes from its checkpoint after losing a worker; one more
    loss, and it fails."""
    directory: str | None = None
    """Folder that relative paths in the space start from; null: the current directory, which is
    then recorded in ``study.yaml``."""
    fixed: dict[str, Any] = {}
    """Settings that all trials share."""
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
        """Raise if the sampler or the pruner does not support a second objective.

        Raises:
            ConfigError: The sampler or the pruner does not support ``cost``.
        """
        if self.cost is None:
            return
        problems = []
        if isinstance(self.sampler.config, CmaEsConfig):
            problems.append(
                "needs a sampler for two objectives: auto, gp, random or tpe, got cma_es."
            )
        if not isinstance(self.pruner.config, NoPrunerConfig):
            problems.append(
                f"needs pruner none, got {self.pruner.name}: pruning by the criterion alone "
                "would stop cheap trials that belong to the Pareto front."
            )
        if problems:
            raise ConfigError([Problem(("cost",), text) for text in problems])

    @model_validator(mode="before")
    @classmethod
    def _read_former_names(cls, values: object) -> object:
        return with_present_names(values)

    @model_validator(mode="after")
    def _check_tasks(self) -> Self:
        if self.tasks is None:
            if self.task is None:
                text = "is required and missing; for several tasks, give tasks, a list."
                raise ConfigError([Problem(("task",), text)])
            return self
        if self.task is not None:
            text = "must not be given together with task; keep one."
            raise ConfigError([Problem(("tasks",), text)])
        if not self.tasks:
            raise ConfigError([Problem(("tasks",), "must hold at least one task, got [].")])
        names = [_name_of(task) for task in self.tasks]
        problems = [
            Problem(("tasks", i), f"'{name}' is given twice; study it again in another space.")
            for i, name in enumerate(names)
            if name in names[:i]
        ]
        if problems:
            raise ConfigError(problems)
        return self

    @model_validator(mode="after")
    def _check_joint(self) -> Self:
        if self.joint is None:
            return self
        problems = []
        if self.tasks is None or len(self.tasks) < 2:
            text = f"{self.joint} needs at least two tasks, such as tasks: [s2rda49, s2rda_ms39]."
            problems.append(Problem(("joint",), text))
        if self.cost is not None:
            text = "must not be given together with joint: a cost is of one task; keep one."
            problems.append(Problem(("cost",), text))
        if problems:
            raise ConfigError(problems)
        return self

    @property
    def task_names(self) -> tuple[str, ...]:
        """The names of the study's tasks; just one unless the search is joint."""
        return tuple(map(_name_of, self._task_values()))

    def _task_values(self) -> list[TaskValue]:
        if self.tasks is not None:
            return self.tasks
        assert self.task is not None
        return [self.task]

    @property
    def objective_name(self) -> str:
        """A short name of what the search maximises."""
        return f"{self.joint} of {self.criterion.name}" if self.joint else self.criterion.name

    @property
    def ranks_trials(self) -> bool:
        """Whether a trial's score depends on the other trials."""
        return self.joint == "mean_rank" or isinstance(self.criterion.config, RankAverage.Config)

    def on_each_task(self, config: TrialConfig) -> list[Resolved[TrialConfig]]:
        """Return the configurations that a trial runs: one, or one per task of a joint search."""
        configs = [config]
        if self.joint is not None:
            tasks = [validate(TrialConfig, {"task": task}).task for task in self._task_values()]
            configs = [config.model_copy(update={"task": task}) for task in tasks]
        return [resolve_paths(each, self._base()) for each in configs]

    def _base(self) -> str:
        """Return the absolute folder that relative paths start from."""
        return absolute_path(self.directory or "", os.getcwd())

    def relative_paths(self, space: SearchSpace) -> dict[str, str]:
        """Return the paths in its trials that depend on the current directory, by place."""
        return {
            place: text
            for config in space.probe_configs()
            for run in self.on_each_task(config)
            for place, text in run.written.items()
            if is_relative(text)
        }

    def located(self, space: SearchSpace) -> Self:
        """Return the study with its directory filled in if the space has relative paths.

        Read from another directory, it is still the same study.
        """
        directory = self._base() if self.relative_paths(space) else None
        return self.model_copy(update={"directory": directory})

    def studies(self) -> "list[StudyConfig]":
        """Return a separate study for each task."""
        return [
            self.model_copy(update={"task": task, "tasks": None, "joint": None})
            for task in self._task_values()
        ]

    def conditions(self, space: SearchSpace) -> Conditions:
        """Return the conditions that the study compares.

        Raises:
            ConfigError: ``compare_by`` names something other than searched choices.
        """
        return Conditions.parse(self.compare_by, space)

    def space(self) -> SearchSpace:
        """Return the search space of one task, which fixes ``task``, ``criterion`` and ``seed``.

        The task's own settings may be searched. For a joint search, this is the space of the
        trials on the first task; :meth:`on_each_task` derives the others.

        Raises:
            ConfigError: The space holds an invalid value.
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
        taken = [place for place in places if holds(parts, place) and place != ("search", "task")]
        if taken:
            raise ConfigError(
                [
                    Problem(
                        place, f"must be given as '{place[-1]}' at the top level of the space."
                    )
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
    """Return the seconds of ``90m``, ``2h`` or ``1d12h``.

    Raises:
        ValueError: The text is not a duration, or the duration is zero.
    """
    # pandas.Timedelta would parse this too, but importing pandas slows the start of every command.
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


def holds(tree: Any, place: Place) -> bool:
    """Return whether nested mappings have a key at ``place``."""
    for key in place:
        if not isinstance(tree, dict) or key not in tree:
            return False
        tree = tree[key]
    return True
