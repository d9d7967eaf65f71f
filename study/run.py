"""Runs a study: ``python -m study.run --space NAME|FILE``, or :func:`run_study` from Python."""

import argparse
import json
import logging
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import optuna
import torch
import yaml
from filelock import FileLock, Timeout
from rich.console import Console
from rich.table import Table
from torch import Tensor

from study.comparison import Comparison, compare
from study.config import StudyConfig, question_of, read_studies, read_study, shipped_spaces
from study.report import as_json, print_summary
from study.session import Layout, Observer, Session
from study.shared_records import SharedRecords
from study.space import SearchSpace
from study.stored import read_all
from study.tables import across
from study.tabular import side_by_side
from study.warm_start import WarmStart, best_params, known_trials
from trainables.checks import check_trials, fetch_weights
from trainables.checkpoint import make_writable, write_atomically
from trainables.config import ResourcesConfig, TrialConfig
from trainables.criteria import SELECTORS
from trainables.schema import look_up
from trainables.tasks import DATA_VARIABLE, using_data_folder

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


def run_study(space: str | Path, *, out: Path = Path("runs"), name: str | None = None,
              resume: bool = False, overrides: Sequence[str] = (), data: Path | None = None,
              warm_start: Path | None = None, warm_start_best: int = 3,
              known_results: Path | None = None,
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
    chosen, folders = _folders(out, name or Path(space).stem, [study for study, _ in studies],
                               resume, fresh=name is None)
    plans: list[_Plan] = []
    for (study, search_space), folder in zip(studies, folders, strict=True):
        layout = Layout(folder)
        if layout.space.exists():
            _check_same_study(layout, study)
        beginning = WarmStart(
            best_params(warm_start, warm_start_best, search_space) if warm_start else (),
            known_trials(known_results, study, search_space) if known_results else ())
        resources = _check_resources(search_space)
        plans.append(_Plan(study, search_space, layout, beginning, resources,
                           _concurrency(study, resources)))
    return _run_plans(plans, chosen, str(space), out, data, console)


def _run_plans(plans: Sequence[_Plan], name: str, space: str, out: Path, data: Path | None,
               console: Console) -> StudyResult:
    """One after the other; what is interrupted, or fails, ends all."""
    results: list[StudyResult] = []
    for index, plan in enumerate(plans):
        if len(plans) > 1:
            console.print(f"Task {index + 1} of {len(plans)}: {plan.study.task_name}",
                          markup=False, highlight=False)
        try:
            results.append(_run_plan(plans[index:], name, space, out, data, console))
            interrupted = results[-1].interrupted
        except KeyboardInterrupt:  # before its first trial
            if not results:
                raise
            interrupted = True
        if interrupted:
            break
    return replace(results[0], interrupted=interrupted, others=tuple(results[1:]))


def _run_plan(plans: Sequence[_Plan], name: str, space: str, out: Path, data: Path | None,
              console: Console) -> StudyResult:
    """The first; the data of all are opened before."""
    from study.tuner import running_ray

    plan = plans[0]
    layout, cache = plan.layout, out / "cache"
    made = [folder for folder in (cache, layout.root, out, *out.parents) if not folder.exists()]
    with ExitStack() as stack:
        try:
            stack.enter_context(using_data_folder(data))
            make_writable(layout.root)
            make_writable(cache)
            stack.enter_context(_only_one(layout))
            stack.enter_context(_logging_to(layout.log))
            with console.status("Opening data and starting Ray …"):
                wait_for_ray = stack.enter_context(
                    running_ray(available_cpus(), plan.concurrency))
                _check_trials([each.space for each in plans], cache)
        except (ValueError, KeyboardInterrupt):
            stack.close()
            _remove_empty(made)
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


# Checks before anything is made

def _folders(out: Path, name: str, studies: Sequence[StudyConfig], resume: bool, fresh: bool
             ) -> tuple[str, list[Path]]:
    """The studies' name and folders: with one of them to resume, else none of which exists."""
    if not name or Path(name).name != name or name.startswith("."):
        raise ValueError(f"--name: must be the plain name of a folder, got '{name}'.")
    ends = [f"-{study.task_name}" for study in studies] if len(studies) > 1 else [""]
    names = [name, *(f"{name}-{i}" for i in range(2, 10_000))] if fresh else [name]
    numbered = {each: [out / f"{each}{end}" for end in ends] for each in names}
    if resume:
        begun = [each for each, folders in numbered.items()
                 if any(Layout(folder).space.exists() for folder in folders)]
        if not begun:
            raise ValueError(f"{numbered[name][0]}: no study to resume here. Without --resume a "
                             "new one starts.")
        return begun[-1], numbered[begun[-1]]
    taken = {each: there for each, folders in numbered.items()
             if (there := [folder for folder in folders if folder.exists()])}
    if taken and not fresh:
        raise ValueError(f"{taken[name][0]}: exists already. Choose another --name, or go on with "
                         "the study there by --resume.")
    free = next(each for each in names if each not in taken)
    return free, numbered[free]


def _check_same_study(layout: Layout, study: StudyConfig) -> None:
    stored = yaml.safe_load(layout.space.read_text())
    given = study.model_dump(mode="json")
    free = ("num_trials", "time_limit", "epoch_limit", "concurrency", "final_seeds",
            "max_restarts")
    different = sorted(key for key in {*stored, *given}
                       if key not in free and stored.get(key) != given.get(key))
    if different:
        raise ValueError(f"{layout.root}: holds another study; it differs in "
                         f"{', '.join(different)}. Resume it with --space {layout.space} "
                         f"--name {layout.root.name}, or choose another --name.")


def available_cpus() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _check_resources(space: SearchSpace) -> ResourcesConfig:
    """What a trial occupies, which must be the same for all and fit the machine."""
    needs = list(dict.fromkeys(config.resources for config in space.probe_configs()))
    if len(needs) > 1:
        raise ValueError("resources: must be the same for all trials of a study.")
    resources = needs[0]
    cpus, gpus = available_cpus(), torch.cuda.device_count()
    if resources.workers * resources.cpus_per_worker > cpus:
        raise ValueError(
            f"resources: a trial needs {resources.workers} workers × "
            f"{resources.cpus_per_worker} CPUs, and this machine has {cpus}.")
    if resources.workers * resources.gpus_per_worker > gpus:
        raise ValueError(
            f"resources: a trial needs {resources.workers} workers × "
            f"{resources.gpus_per_worker:g} GPUs, and this machine has {gpus}.")
    return resources


def _concurrency(study: StudyConfig, resources: ResourcesConfig) -> int:
    """Trials at a time: as many as fit, or fewer if the study says so."""
    fits = available_cpus() // (resources.workers * resources.cpus_per_worker)
    if resources.gpus_per_worker:
        fits = min(fits, int(torch.cuda.device_count()
                             / (resources.workers * resources.gpus_per_worker)))
    return fits if study.concurrency == "auto" else min(study.concurrency, fits)


def _check_trials(spaces: Sequence[SearchSpace], cache: Path) -> None:
    """Opens the data and fetches the weights, so that errors come before the first trial."""
    configs = [config for space in spaces for config in space.probe_configs()]
    check_trials(configs, cache)
    fetch_weights(configs)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Removes what was made in vain; a cache that images have been checked for stays."""
    for folder in folders:
        if folder.is_dir():
            for name in (".lock", "study.log"):
                (folder / name).unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()


def _only_one(layout: Layout) -> Any:
    """A lock that ends with the process, however it ends."""
    lock = FileLock(layout.root / ".lock", timeout=0)
    try:
        return lock.acquire()
    except Timeout as error:
        raise ValueError(f"{layout.root}: this study is running already.") from error


# What is written down

def _write_description(layout: Layout, study: StudyConfig, space: str) -> None:
    if not layout.space.exists():
        head = f"# The space '{space}' with its defaults filled in.\n"
        text = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False)
        write_atomically(layout.space, (head + text).encode())
    runs = json.loads(layout.environment.read_text()) if layout.environment.exists() else []
    runs.append(environment())
    write_atomically(layout.environment, json.dumps(runs, indent=1).encode())


def environment() -> dict[str, Any]:
    """Versions, revision, machine and command: what a number may depend on."""
    packages = ("torch", "torchvision", "ray", "optuna", "timm", "numpy", "scikit-learn",
                "matplotlib", "pillow", "syn2real-study")
    return {
        "command": shlex.join([sys.executable, *sys.orig_argv[1:]]),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "git_revision": _git("rev-parse", "HEAD"),
        "git_modified": bool(_git("status", "--porcelain")),
        "directory": os.getcwd(),
        "data": os.environ.get(DATA_VARIABLE),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": available_cpus(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # this project, run from a folder of its source
        return None


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).parent
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True,
                              text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


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


# The command

def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=False)
    try:
        if options.list:
            _print_spaces(console)
            return 0
        if options.space is None:
            raise ValueError("--space NAME|FILE is required; --list shows the spaces that ship.")
        overrides = _overrides(options)
        if options.dry_run:
            _print_plan(options.space, overrides, console)
            return 0
        if options.simulate is not None:
            from study.simulate import print_simulation  # slow to import, and seldom needed

            print_simulation(*read_study(options.space, overrides), options.simulate, console)
            return 0
        return _run(options, overrides, console)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except StudyFailed as error:
        print(f"The study failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m study.run", description="Run a hyperparameter study.")
    parser.add_argument("--space", metavar="NAME|FILE", help="the search space; see --list")
    parser.add_argument("--trials", type=int, metavar="N", help="trials of the search")
    parser.add_argument("--time", metavar="2h",
                        help="for how long trials are drawn; those under way then go on")
    parser.add_argument("--budget-epochs", type=float, metavar="N",
                        help="epochs that the search may train; whichever of --trials, --time and "
                             "this is used up first ends it")
    parser.add_argument("--concurrency", type=int, metavar="N", help="trials at a time")
    parser.add_argument("--workers", type=int, metavar="N", help="processes of each trial")
    parser.add_argument("--seed", type=int, metavar="N", help="of search and trials")
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR",
                        help="the folder of studies (default: %(default)s)")
    parser.add_argument("--name", help="the study's folder in --out (default: the space's name, "
                                       "numbered where it is taken)")
    parser.add_argument("--data", type=Path, metavar="DIR",
                        help="the folder of downloads, for tasks that name none (default: the "
                             "environment variable SYN2REAL_DATA)")
    parser.add_argument("--warm-start", type=Path, metavar="STUDY",
                        help="the folder of an earlier study whose best configurations are tried "
                             "first, as far as the space has and allows their values")
    parser.add_argument("--warm-start-best", type=int, default=3, metavar="K",
                        help="how many of each of its conditions (default: %(default)s)")
    parser.add_argument("--known-results", type=Path, metavar="STUDY",
                        help="the folder of an earlier study of the same task and fixed settings; "
                             "the sampler is told its results, and nothing of it runs again")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted study")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
                        help="change a value of the space, e.g. fixed.schedule.num_epochs=2")
    parser.add_argument("--dry-run", action="store_true",
                        help="check, show some trials and the cost; run nothing")
    parser.add_argument("--simulate", type=Path, metavar="CURVES",
                        help="search over a model of recorded trials (a study's folder or a "
                             "table of learning curves) and say what the space's sampler and "
                             "pruner save; run nothing")
    parser.add_argument("--list", action="store_true", help="the spaces that ship")
    return parser


def _overrides(options: argparse.Namespace) -> list[str]:
    flags = {"num_trials": options.trials, "time_limit": options.time,
             "epoch_limit": options.budget_epochs, "concurrency": options.concurrency,
             "fixed.resources.workers": options.workers, "seed": options.seed}
    return [*(f"{key}={value}" for key, value in flags.items() if value is not None),
            *options.set]


def _run(options: argparse.Namespace, overrides: list[str], console: Console) -> int:
    result = run_study(options.space, out=options.out, name=options.name, resume=options.resume,
                       overrides=overrides, data=options.data, console=console,
                       warm_start=options.warm_start, warm_start_best=options.warm_start_best,
                       known_results=options.known_results)
    results = (result, *result.others)
    for each in results:
        if result.others:
            console.print(f"\n{each.folder.name}", style="bold", markup=False, highlight=False)
        print_summary(each.comparison, console)
        folder = each.folder
        console.print(f"Records, TensorBoard events and checkpoints are in {folder}\n"
                      f"(tensorboard --logdir {folder / 'tensorboard'}); the full log is "
                      f"{Layout(folder).log}.", markup=False, highlight=False, soft_wrap=True)
    if result.others and not result.interrupted:
        console.print(side_by_side(across(read_all([each.folder for each in results]))))
    if result.interrupted:
        command = [sys.orig_argv[0], "-m", "study.run", "--space", options.space,
                   "--out", str(options.out), "--name", result.name, "--resume",
                   *(["--data", str(options.data)] if options.data else []),
                   *(part for text in overrides for part in ("--set", text))]
        console.print(f"Interrupted. To go on:\n  {shlex.join(command)}", markup=False,
                      highlight=False, soft_wrap=True)
        return 130
    return 0


def _print_spaces(console: Console) -> None:
    table = Table(box=None, header_style="bold")
    table.add_column("space", no_wrap=True)
    table.add_column("question")
    for name, path in shipped_spaces().items():
        table.add_row(name, question_of(path))
    console.print(table)


def _print_plan(space: str, overrides: list[str], console: Console) -> None:
    studies = read_studies(space, overrides)
    study, search_space = studies[0]
    parameters = search_space.tree.parameters()
    table = Table(title=f"{len(parameters)} searched values", title_justify="left",
                  header_style="bold")
    table.add_column("name")
    table.add_column("values")
    for name, distribution in parameters.items():
        values = getattr(distribution, "choices", None)
        if values is None:
            scale = " (log)" if getattr(distribution, "log", False) else ""
            table.add_row(name, f"{getattr(distribution, 'low')} … "  # noqa: B009
                                f"{getattr(distribution, 'high')}{scale}")  # noqa: B009
        else:
            table.add_row(name, ", ".join(str(value) for value in values))
    console.print(table)
    sampler = optuna.samplers.RandomSampler(seed=study.seed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    memory = optuna.create_study(sampler=sampler)
    for number in range(3):
        trial = memory.ask()
        config = search_space.sample(trial)
        shown = ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}"
                          for k, v in trial.params.items())
        console.print(f"example {number + 1}: {shown or 'nothing is searched'}", markup=False)
    num_conditions = len(study.conditions(search_space).combinations)
    tasks = [each.task_name for each, _ in studies]
    console.print(_cost(study, num_conditions, config, tasks), markup=False)


def _cost(study: StudyConfig, num_conditions: int, config: TrialConfig, tasks: Sequence[str]
          ) -> str:
    schedule = config.schedule
    length = f"{schedule.num_epochs} epochs" if schedule.num_epochs else \
        f"{schedule.num_steps} steps"
    each = f" for each of the tasks {', '.join(tasks)}" if len(tasks) > 1 else ""
    return (f"cost{each}: at most {study.num_trials} trials × {length}, and "
            f"{study.final_seeds} final runs for each of {num_conditions} conditions. Nothing "
            "was run.")


if __name__ == "__main__":
    sys.exit(main())
