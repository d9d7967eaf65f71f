"""Run a study from Python: :func:`run_study` plans it, starts Ray and runs its session."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
import yaml
from rich.console import Console
from torch import Tensor

from study.analysis.comparison import Comparison, compare_tasks
from study.config.reading import read_studies
from study.config.study_config import StudyConfig
from study.execution.hosts import Host, open_host
from study.execution.interruption import GracefulShutdown
from study.execution.placement import common_resources, concurrency_of, describe_resources
from study.execution.preparation import (
    check_data,
    check_same_study,
    choose_folders,
    lock_study,
    remove_empty,
)
from study.execution.provenance import environment
from study.reporting.summary import as_json
from study.session.session import Observer, Session
from study.session.warm_start import WarmStart, best_params, known_trials
from study.spaces.search_space import SearchSpace
from study.storage.locations import check_copy, local_copies, open_storage, persisted
from study.storage.persistence import Persistence
from study.storage.study_folder import StudyFolder
from study.trials.shared_records import SharedRecords
from trainables.checkpointing.files import make_writable, write_atomically
from trainables.tasks import using_data_folder
from trainables.trial_config import ResourcesConfig, TrialConfig

log = logging.getLogger(__name__)


class StudyError(RuntimeError):
    """Every trial of the study failed."""


@dataclass(frozen=True)
class StudyResult:
    """The result of a study, and where its files are."""

    name: str
    """Resumes the study: ``run_study(space, name=name, resume=True)``."""
    folder: Path
    """The study folder on this machine."""
    place: str
    """The permanent copy of the study folder: the folder itself, or the URI of an object store."""
    task: str
    """The task that ``comparison`` is about."""
    comparison: Comparison
    """Metrics by condition."""
    interrupted: bool
    """Whether this study, or the last of ``others``, was interrupted; it can be resumed."""
    others: tuple["StudyResult", ...] = ()
    """Results of the space's further tasks that were started, in the order of the space. In a
    joint search all share one folder."""


@dataclass(frozen=True)
class _Plan:
    """A study whose input is valid and for which there are machines."""

    study: StudyConfig
    space: SearchSpace
    study_folder: StudyFolder
    beginning: WarmStart
    resources: ResourcesConfig
    concurrency: int
    room: str
    """Describes the trials that run at a time and their machines, for the user."""

    def probe_configs(self) -> list[TrialConfig]:
        """Return the space's probe configurations, each on every task."""
        return [
            run.config
            for config in self.space.probe_configs()
            for run in self.study.on_each_task(config)
        ]


def run_study(
    space: str | Path,
    *,
    out: Path | None = None,
    storage: str | None = None,
    name: str | None = None,
    resume: bool = False,
    overrides: Sequence[str] = (),
    data: Path | None = None,
    warm_start: str | Path | None = None,
    warm_start_best: int = 3,
    known_results: str | Path | None = None,
    address: str | None = None,
    console: Console | None = None,
) -> StudyResult:
    """Run a study, or one study per task of the space.

    A space with a joint search has a single study of all its tasks.

    Args:
        space: Name of a shipped space, or path of a YAML file.
        out: Folder for studies and their cache; ``runs`` if ``None``.
        storage: Location of studies that several machines work on: a folder that all of them
            see, in place of ``out``, or an object store, ``s3://bucket/prefix``. With an object
            store, ``out`` holds working copies on each machine's own disk.
        name: Name of the study folder in ``out``. If ``None``, the name of the space, numbered
            if it is taken. With several tasks, each task has a folder ``name-task``, unless the
            search is joint.
        resume: Resume an interrupted study, and run the tasks that follow it.
        overrides: Changes to the space, as ``section.key=value``.
        data: Download folder for tasks that name none; takes precedence over the environment
            variable SYN2REAL_DATA.
        warm_start: Folder or URI of an earlier study whose best configurations are tried first.
        warm_start_best: Number of configurations to take from each of its conditions.
        known_results: Folder or URI of an earlier study of the same task and fixed settings;
            the sampler starts from its results.
        address: Ray cluster that this machine belongs to, ``auto`` or ``HOST:PORT``. If
            ``None``, trials run on this machine alone.
        console: Shows progress; ``None`` shows nothing.

    Returns:
        The result, which may be that of an interrupted study. With several tasks, the result of
        the first one, which contains those of the others.

    Raises:
        ValueError: The input is invalid; the message has one line per problem. No file was
            created.
        StudyError: Every trial failed.
        StorageError: The storage became unreachable. What was saved can be resumed.
    """
    console = console or Console(quiet=True)
    studies = [
        (study.located(search_space), search_space)
        for study, search_space in read_studies(str(space), list(overrides))
    ]
    place = open_storage(storage, out)
    chosen, study_folders = choose_folders(
        place,
        name or Path(space).stem,
        [study for study, _ in studies],
        resume,
        fresh=name is None,
    )
    plans: list[_Plan] = []
    with (
        open_host(address, data, console) as host,
        local_copies([warm_start] if warm_start else []) as tried,
        local_copies([known_results] if known_results else []) as known,
    ):
        for (study, search_space), study_folder in zip(studies, study_folders, strict=True):
            check_copy(study_folder)
            if study_folder.description() is not None:
                check_same_study(study_folder, study)
            resources = common_resources(search_space)
            beginning = WarmStart(
                best_params(tried[0], warm_start_best, search_space) if tried else (),
                known_trials(known[0], study, search_space) if known else (),
            )
            concurrency = concurrency_of(study, resources, host.cluster)
            room = (
                f"{concurrency} at a time, each on {describe_resources(resources)}: {host.cluster}"
            )
            plans.append(
                _Plan(study, search_space, study_folder, beginning, resources, concurrency, room)
            )
        return _run_plans(plans, host, chosen, str(space), place.out, data, console)


def _run_plans(
    plans: Sequence[_Plan],
    host: Host,
    name: str,
    space: str,
    out: Path,
    data: Path | None,
    console: Console,
) -> StudyResult:
    """Run studies in turn until one is interrupted or fails."""
    results: list[StudyResult] = []
    for index, plan in enumerate(plans):
        if len(plans) > 1:
            console.print(
                f"Task {index + 1} of {len(plans)}: {plan.study.task_names[0]}",
                markup=False,
                highlight=False,
            )
        try:
            results += _run_plan(plans[index:], host, name, space, out, data, console)
            interrupted = results[-1].interrupted
        except KeyboardInterrupt:  # before the first trial of this task
            if not results:
                raise
            interrupted = True
        if interrupted:
            break
    return replace(results[0], interrupted=interrupted, others=tuple(results[1:]))


def _run_plan(
    plans: Sequence[_Plan],
    host: Host,
    name: str,
    space: str,
    out: Path,
    data: Path | None,
    console: Console,
) -> list[StudyResult]:
    """Run the first of some studies; return a result per task.

    Data of all of them are checked, so that a bad path fails now and not after days of training.
    """
    plan = plans[0]
    study_folder, cache = plan.study_folder, out / "cache"
    made = [
        folder for folder in (cache, study_folder.root, out, *out.parents) if not folder.exists()
    ]
    with ExitStack() as stack:
        try:
            stack.enter_context(using_data_folder(data))
            make_writable(study_folder.root)
            make_writable(cache)
            stack.enter_context(lock_study(study_folder))
            persistence = stack.enter_context(persisted(study_folder))
            stack.enter_context(_logging_to(study_folder.log))
            with console.status("Opening data and starting Ray …"):
                wait_for_ray = stack.enter_context(host.running(plan.concurrency))
                host.call(
                    plan.resources,
                    check_data,
                    [config for each in plans for config in each.probe_configs()],
                    cache.absolute(),
                )
        except (ValueError, KeyboardInterrupt):
            stack.close()  # the lock and the log are in folders that are removed next
            remove_empty(made)
            raise
        _write_description(study_folder, plan.study, space)
        persistence.begin()
        comparisons, interrupted = _conduct(plan, cache, console, wait_for_ray, persistence)
        return [
            StudyResult(name, study_folder.root, study_folder.place, task, comparison, interrupted)
            for task, comparison in comparisons.items()
        ]


def _conduct(
    plan: _Plan,
    cache: Path,
    console: Console,
    wait_for_ray: Callable[[], None],
    persistence: Persistence,
) -> tuple[dict[str, Comparison], bool]:
    """Run the session on Ray, with progress, log and TensorBoard as observers.

    Returns:
        The comparison of each task, and whether the study was interrupted.
    """
    from study.execution.tuner import PendingMonitor, run
    from study.reporting.progress import Display, LogBook
    from study.reporting.tensorboard import TensorBoard

    study, space, study_folder = plan.study, plan.space, plan.study_folder
    tensorboard = TensorBoard(study_folder, list(space.tree.parameters()))
    with Display(console, study.criterion.name, plan.concurrency) as display:
        observers: list[Observer] = [tensorboard, display, LogBook()]
        shared = (
            SharedRecords(study_folder.root.parent, study_folder.root.name, environment())
            if study.share_records
            else None
        )
        session = Session(study, space, study_folder, observers, shared, persistence=persistence)
        plan.beginning.apply(session.search)
        display.session = session
        tensorboard.describe(study_folder.space.read_text(), lambda: _pictures(plan, cache))
        tensorboard.catch_up(session.records)
        if not session.is_over:
            console.print(f"Trials: {plan.room}", markup=False, highlight=False, soft_wrap=True)
            wait_for_ray()  # only here: a finished study shows its results without Ray
            with GracefulShutdown(
                persistence.check, PendingMonitor(display.on_wait).poll
            ) as interruption:
                run(
                    session,
                    plan.resources,
                    plan.concurrency,
                    cache,
                    study_folder.root / ".tune",
                    interruption,
                )
    tensorboard.close()
    if session.is_over:
        persistence.sweep(
            path
            for record in session.records
            for path in session.spent_files(record.id, record.stage)
        )
    comparisons = compare_tasks(session.records, study)
    result = {task: as_json(comparison) for task, comparison in comparisons.items()}
    write_atomically(
        study_folder.result,
        json.dumps(result if study.joint else result[study.task_names[0]], indent=1).encode(),
    )
    if session.is_over and all(record.outcome == "failed" for record in session.records):
        raise StudyError(
            f"all {len(session.records)} trials failed; the first: {session.records[0].reason}"
        )
    return comparisons, not session.is_over


def _pictures(plan: _Plan, cache: Path) -> dict[str, Tensor]:
    """Return images for TensorBoard.

    Empty if an image is unreadable; the trial reports that.
    """
    from study.reporting.images import batch_pictures

    try:
        return batch_pictures(plan.probe_configs(), cache)
    except ValueError as error:
        log.warning("no pictures of the data: %s", error)
        return {}


def _write_description(study_folder: StudyFolder, study: StudyConfig, space: str) -> None:
    """Write the validated space, and append this run's environment."""
    if not study_folder.space.exists():
        head = f"# The space '{space}' with its defaults filled in.\n"
        text = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False)
        write_atomically(study_folder.space, (head + text).encode())
    runs = (
        json.loads(study_folder.environment.read_text())
        if study_folder.environment.exists()
        else []
    )
    runs.append(environment())
    write_atomically(study_folder.environment, json.dumps(runs, indent=1).encode())


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Redirect log messages and warnings of libraries from the terminal to a file."""
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
