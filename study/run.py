"""Runs a study: ``python -m study.run --space NAME|FILE``."""

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console

from study.analysis.stored_study import read_all
from study.analysis.study_tables import across
from study.config.study_config import read_studies, read_study
from study.execution.launch import StudyError, run_study
from study.reporting.dry_run import print_plan, print_spaces
from study.reporting.exports import side_by_side
from study.reporting.summary import print_summary
from study.storage.locations import OUT
from study.storage.study_folder import StudyFolder
from study.storage.sync import StorageError
from trainables.checkpointing.object_store import StoreError, is_uri

CLUSTER = Path("cluster/cluster.yaml")


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=False)
    try:
        if options.list:
            print_spaces(console)
            return 0
        if options.space is None:
            raise ValueError("--space NAME|FILE is required; --list shows the spaces that ship.")
        overrides = _overrides(options)
        if options.dry_run:
            print_plan(options.space, overrides, console)
            return 0
        if options.simulate is not None:
            from study.analysis.simulation import (
                print_simulation,  # slow to import, and seldom needed
            )

            print_simulation(*read_study(options.space, overrides), options.simulate, console)
            return 0
        if options.cluster or options.address:
            _check_storage(options.storage)
        if options.cluster or "://" in (options.address or ""):
            return _submit(options, overrides)
        return _run(options, overrides, console)
    except (ValueError, StoreError) as error:
        print(error, file=sys.stderr)
        return 2
    except StudyError as error:
        print(f"The study failed: {error}", file=sys.stderr)
        return 1
    except StorageError as error:
        print(
            f"The study ended, since what it finds is no longer kept: {error} What is there "
            "can go on: give the same command with --resume.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m study.run", description="Run a hyperparameter study."
    )
    parser.add_argument("--space", metavar="NAME|FILE", help="the search space; see --list")
    parser.add_argument("--trials", type=int, metavar="N", help="trials of the search")
    parser.add_argument(
        "--time", metavar="2h", help="for how long trials are drawn; those under way then go on"
    )
    parser.add_argument(
        "--budget-epochs",
        type=float,
        metavar="N",
        help="epochs that the search may train; whichever of --trials, --time and "
        "this is used up first ends it",
    )
    parser.add_argument("--concurrency", type=int, metavar="N", help="trials at a time")
    parser.add_argument("--workers", type=int, metavar="N", help="processes of each trial")
    parser.add_argument("--seed", type=int, metavar="N", help="of search and trials")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"the folder of studies (default: {OUT})"
    )
    parser.add_argument(
        "--storage",
        metavar="DIR|s3://…",
        help="where a study on several machines is kept: a folder that all of "
        "them see, instead of --out, or one of an object store, whose "
        "working copies are then in --out",
    )
    parser.add_argument(
        "--name",
        help="the study's folder in --out (default: the space's name, numbered where it is taken)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="the folder of downloads, for tasks that name none (default: the "
        "environment variable SYN2REAL_DATA)",
    )
    parser.add_argument(
        "--address",
        metavar="ADDRESS",
        help="run on a Ray cluster: auto or HOST:PORT of the one that this "
        "machine is part of; http://HOST:PORT of another one's job server",
    )
    parser.add_argument(
        "--cluster",
        type=Path,
        metavar="FILE",
        nargs="?",
        const=CLUSTER,
        help="run on the cluster that `ray up FILE` has started (default: %(const)s)",
    )
    parser.add_argument(
        "--warm-start",
        metavar="STUDY",
        help="the folder or URI of an earlier study whose best configurations "
        "are tried first, as far as the space has and allows their values",
    )
    parser.add_argument(
        "--warm-start-best",
        type=int,
        default=3,
        metavar="K",
        help="how many of each of its conditions (default: %(default)s)",
    )
    parser.add_argument(
        "--known-results",
        metavar="STUDY",
        help="the folder or URI of an earlier study of the same task and fixed "
        "settings; the sampler is told its results, and nothing of it runs "
        "again",
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted study")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change a value of the space, e.g. fixed.schedule.num_epochs=2",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check, show some trials and the cost; run nothing"
    )
    parser.add_argument(
        "--simulate",
        type=Path,
        metavar="CURVES",
        help="search over a model of recorded trials (a study's folder or a "
        "table of learning curves) and say what the space's sampler and "
        "pruner save; run nothing",
    )
    parser.add_argument("--list", action="store_true", help="the spaces that ship")
    return parser


def _overrides(options: argparse.Namespace) -> list[str]:
    flags = {
        "num_trials": options.trials,
        "time_limit": options.time,
        "epoch_limit": options.budget_epochs,
        "concurrency": options.concurrency,
        "fixed.resources.workers": options.workers,
        "seed": options.seed,
    }
    return [*(f"{key}={value}" for key, value in flags.items() if value is not None), *options.set]


def _check_storage(place: str | None) -> None:
    if place is None or not (is_uri(place) or Path(place).is_absolute()):
        raise ValueError(
            "--storage: must be given with a cluster, as s3://BUCKET/PREFIX or the "
            f"absolute path of a folder that all its machines see, got {place}."
        )


def _submit(options: argparse.Namespace, overrides: list[str]) -> int:
    """Runs the study as a job of a cluster."""
    from study.jobs.packing import Submission, check_paths
    from study.jobs.submit import submit

    if options.cluster and options.address:
        raise ValueError("--cluster and --address: give one of them.")
    for study, space in read_studies(options.space, overrides):  # mistakes show here, not there
        check_paths(study, space)
    earlier = (("--warm-start", options.warm_start), ("--known-results", options.known_results))
    return submit(
        Submission(
            options.space,
            options.name or Path(options.space).stem,
            options.storage,
            options.resume,
            tuple(_passed_on(options, overrides)),
            tuple((option, study) for option, study in earlier if study),
        ),
        options.address,
        options.cluster,
        lambda line: print(line, file=sys.stderr),
    )


def _passed_on(options: argparse.Namespace, overrides: list[str]) -> list[str]:
    """Arguments that mean the same wherever they are given."""
    return [
        "--storage",
        options.storage,
        *(["--out", str(options.out)] if options.out else []),
        *(["--name", options.name] if options.name else []),
        *(["--data", str(options.data)] if options.data else []),
        "--warm-start-best",
        str(options.warm_start_best),
        *(part for text in overrides for part in ("--set", text)),
    ]


def _run(options: argparse.Namespace, overrides: list[str], console: Console) -> int:
    result = run_study(
        options.space,
        out=options.out,
        storage=options.storage,
        name=options.name,
        resume=options.resume,
        overrides=overrides,
        data=options.data,
        console=console,
        warm_start=options.warm_start,
        warm_start_best=options.warm_start_best,
        known_results=options.known_results,
        address=options.address,
    )
    results = (result, *result.others)
    folders = list(dict.fromkeys(each.folder for each in results))
    for each in results:
        if result.others:
            title = each.folder.name if len(folders) > 1 else f"Task {each.task}"
            console.print(f"\n{title}", style="bold", markup=False, highlight=False)
        print_summary(each.comparison, console)
    for folder, place in {each.folder: each.place for each in results}.items():
        console.print(
            f"Records, TensorBoard events and checkpoints are in {place}\n"
            f"(tensorboard --logdir {place}/tensorboard); the full log is "
            f"{StudyFolder(folder).log}.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if result.others and not result.interrupted:
        console.print(side_by_side(across(read_all(folders))))
    if result.interrupted:
        console.print(
            _how_to_go_on(options, overrides, result.name),
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return 130
    return 0


def _how_to_go_on(options: argparse.Namespace, overrides: list[str], name: str) -> str:
    if options.address:  # it was started as a job, or by who started Ray
        return f"Interrupted. To go on, start it in the same way with --name {name} --resume."
    command = [
        sys.orig_argv[0],
        "-m",
        "study.run",
        "--space",
        options.space,
        *(["--storage", options.storage] if options.storage else []),
        *(["--out", str(options.out or OUT)] if options.out or not options.storage else []),
        "--name",
        name,
        "--resume",
        *(["--data", str(options.data)] if options.data else []),
        *(part for text in overrides for part in ("--set", text)),
    ]
    return f"Interrupted. To go on:\n  {shlex.join(command)}"


if __name__ == "__main__":
    sys.exit(main())
