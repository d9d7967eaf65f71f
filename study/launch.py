"""Runs a study from Python: :func:`run_study` plans it, starts Ray and conducts its session."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import optuna
import yaml
from rich.console import Console
from torch import Tensor

from study.comparison import Comparison, compare
from study.config import StudyConfig, read_studies
from study.environment import available_cpus, environment
from study.placement import Cluster, common_resources, concurrency_of, in_words, this_machine
from study.preparation import check_data, check_same_study, choose_folders, only_one, remove_empty
from study.report import as_json
from study.session import Layout, Observer, Session
from study.shared_records import SharedRecords
from study.space import SearchSpace
from study.warm_start import WarmStart, best_params, known_trials
from trainables.checkpoint import make_writable, write_atomically
from trainables.config import ResourcesConfig
from trainables.criteria import SELECTORS
from trainables.schema import look_up
from trainables.tasks import using_data_folder

log = logging.getLogger(__name__)


class StudyFailed(RuntimeError):  # noqa: N818 - names what happened
    """No trial of the study came to a result."""


@dataclass(frozen=True)
class StudyResult:
    """Where a study's files are and what it found."""

    name: str
    """What it goes on by: ``run_study(space, name=name, resume=True)``."""
    folder: Path
    comparison: Comparison
    interrupted: bool
    """It, or the last of the others, was ended early and can go on."""
    others: tuple["StudyResult", ...] = ()
    """Of the space's further tasks, in their order, as far as they were begun."""


@dataclass(frozen=True)
class _Plan:
    """A study that may begin."""

    study: StudyConfig
    space: SearchSpace
    layout: Layout
    beginning: WarmStart
    resources: ResourcesConfig
    concurrency: int
    room: str
    """Where that many trials find room."""


class Host(Protocol):
    """The Ray that trials run on."""

    cluster: Cluster
    """The machines that it has, or may get."""

    def running(self, num_slots: int) -> AbstractContextManager[Callable[[], None]]:
        """Starts it, for so many trials of several workers at a time; yields what waits for it."""

    def call(self, resources: ResourcesConfig, function: Callable[..., None],
             *arguments: object) -> None:
        """Calls a function where trials run that occupy such resources."""


class _OwnRay:
    """One that begins and ends with the study, on this machine; see :class:`Host`."""

    def __init__(self) -> None:
        self.cluster = this_machine()

    def running(self, num_slots: int) -> AbstractContextManager[Callable[[], None]]:
        from study.ray_host import own_ray

        return own_ray(available_cpus(), num_slots)

    def call(self, resources: ResourcesConfig, function: Callable[..., None],
             *arguments: object) -> None:
        function(*arguments)


def _ray_of(address: str | None, data: Path | None, console: Console
            ) -> AbstractContextManager[Host]:
    if address is None:
        return nullcontext(_OwnRay())
    from study.ray_host import joined_ray

    return joined_ray(address, data, lambda line: console.print(
        line, markup=False, highlight=False, soft_wrap=True))


def run_study(space: str | Path, *, out: Path = Path("runs"), name: str | None = None,
              resume: bool = False, overrides: Sequence[str] = (), data: Path | None = None,
              warm_start: Path | None = None, warm_start_best: int = 3,
              known_results: Path | None = None, address: str | None = None,
              console: Console | None = None) -> StudyResult:
    """Runs a study to its end, or that of each task of a space one after the other.

    Args:
        space: The name of a shipped space or the path of a YAML file.
        out: The folder that holds studies and their cache.
        name: The study's own folder in ``out``; the space's name if ``None``, with a number
            where that is taken. Of several tasks, each one's study has a folder
            ``name-task``.
        resume: Go on with a study that was interrupted, and with the tasks after it.
        overrides: ``section.key=value``, as of ``--set``.
        data: The folder of downloads, for tasks that name none; goes before the environment
            variable SYN2REAL_DATA.
        warm_start: The folder of an earlier study whose best configurations are tried first.
        warm_start_best: How many of each of its conditions.
        known_results: The folder of an earlier study of the same task and fixed settings whose
            results are told to the sampler.
        address: Of the Ray cluster that this machine is part of, to run trials on: ``auto`` or
            ``HOST:PORT``; ``None``: on this machine alone, by a Ray of its own.
        console: Where to show progress; nowhere if ``None``.

    Returns:
        The figures, also those of an interrupted study; of several tasks, the first one's, which
        has the others'.

    Raises:
        ValueError: Something about the input is wrong; one line a problem. Nothing was made.
        StudyFailed: Every trial failed.
    """
    console = console or Console(quiet=True)
    studies = read_studies(str(space), list(overrides))
    chosen, folders = choose_folders(
        out, name or Path(space).stem, [study for study, _ in studies], resume, fresh=name is None)
    with _ray_of(address, data, console) as host:
        plans: list[_Plan] = []
        for (study, search_space), folder in zip(studies, folders, strict=True):
            layout = Layout(folder)
            if layout.space.exists():
                check_same_study(layout, study)
            beginning = WarmStart(
                best_params(warm_start, warm_start_best, search_space) if warm_start else (),
                known_trials(known_results, study, search_space) if known_results else ())
            resources = common_resources(search_space)
            concurrency = concurrency_of(study, resources, host.cluster)
            plans.append(_Plan(study, search_space, layout, beginning, resources, concurrency,
                               f"{concurrency} at a time, each on {in_words(resources)}: "
                               f"{host.cluster}"))
        return _run_plans(plans, host, chosen, str(space), out, data, console)


def _run_plans(plans: Sequence[_Plan], host: Host, name: str, space: str, out: Path,
               data: Path | None, console: Console) -> StudyResult:
    """One after the other; what is interrupted, or fails, ends all."""
    results: list[StudyResult] = []
    for index, plan in enumerate(plans):
        if len(plans) > 1:
            console.print(f"Task {index + 1} of {len(plans)}: {plan.study.task_name}",
                          markup=False, highlight=False)
        try:
            results.append(_run_plan(plans[index:], host, name, space, out, data, console))
            interrupted = results[-1].interrupted
        except KeyboardInterrupt:  # before its first trial
            if not results:
                raise
            interrupted = True
        if interrupted:
            break
    return replace(results[0], interrupted=interrupted, others=tuple(results[1:]))


def _run_plan(plans: Sequence[_Plan], host: Host, name: str, space: str, out: Path,
              data: Path | None, console: Console) -> StudyResult:
    """The first; the data of all are opened before."""
    plan = plans[0]
    layout, cache = plan.layout, out / "cache"
    made = [folder for folder in (cache, layout.root, out, *out.parents) if not folder.exists()]
    with ExitStack() as stack:
        try:
            stack.enter_context(using_data_folder(data))
            make_writable(layout.root)
            make_writable(cache)
            stack.enter_context(only_one(layout))
            stack.enter_context(_logging_to(layout.log))
            with console.status("Opening data and starting Ray …"):
                wait_for_ray = stack.enter_context(host.running(plan.concurrency))
                host.call(plan.resources, check_data,
                          [config for each in plans for config in each.space.probe_configs()],
                          cache.absolute())
        except (ValueError, KeyboardInterrupt):
            stack.close()
            remove_empty(made)
            raise
        _write_description(layout, plan.study, space)
        return StudyResult(name, layout.root, *_conduct(plan, cache, console, wait_for_ray))


def _conduct(plan: _Plan, cache: Path, console: Console, wait_for_ray: Callable[[], None]
             ) -> tuple[Comparison, bool]:
    """Runs the session under Ray with everyone watching; also says whether it was interrupted."""
    from study.display import Display, LogBook
    from study.tensorboard import TensorBoard
    from study.tuner import Interruption, run

    study, space, layout = plan.study, plan.space, plan.layout
    tensorboard = TensorBoard(layout, list(space.tree.parameters()))
    criterion = study.criterion.name
    with Display(console, criterion, plan.concurrency) as display:
        observers: list[Observer] = [tensorboard, display, LogBook()]
        shared = SharedRecords(layout.root.parent, layout.root.name, environment()) \
            if study.share_records else None
        session = Session(study, space, layout, observers, shared)
        plan.beginning.apply(session.search)
        display.session = session
        tensorboard.describe(layout.space.read_text(), lambda: _pictures(space, cache))
        tensorboard.catch_up(session.records)
        if not session.is_over:
            console.print(f"Trials: {plan.room}", markup=False, highlight=False, soft_wrap=True)
            wait_for_ray()
            with Interruption() as interruption:
                run(session, plan.resources, plan.concurrency, cache, layout.root / ".tune",
                    interruption)
    tensorboard.close()
    comparison = compare(session.records, criterion,
                         look_up(SELECTORS, criterion, "criterion").reads_target_labels,
                         study.cost)
    write_atomically(layout.result, json.dumps(as_json(comparison), indent=1).encode())
    if session.is_over and all(record.outcome == "failed" for record in session.records):
        raise StudyFailed(f"all {len(session.records)} trials failed; the first: "
                          f"{session.records[0].reason}")
    return comparison, not session.is_over


def _pictures(space: SearchSpace, cache: Path) -> dict[str, Tensor]:
    """Images for TensorBoard; none where one cannot be read, which is for the trials to say."""
    from study.pictures import batch_pictures

    try:
        return batch_pictures(list(space.probe_configs()), cache)
    except ValueError as error:
        log.warning("no pictures of the data: %s", error)
        return {}


def _write_description(layout: Layout, study: StudyConfig, space: str) -> None:
    if not layout.space.exists():
        head = f"# The space '{space}' with its defaults filled in.\n"
        text = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False)
        write_atomically(layout.space, (head + text).encode())
    runs = json.loads(layout.environment.read_text()) if layout.environment.exists() else []
    runs.append(environment())
    write_atomically(layout.environment, json.dumps(runs, indent=1).encode())


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Inside, everything that libraries say goes to a file instead of the terminal."""
    root = logging.getLogger()
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
