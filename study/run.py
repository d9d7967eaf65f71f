"""Command that runs a study: ``python -m study.run --space NAME|FILE``."""

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console

from study.analysis.stored_study import read_all
from study.analysis.study_tables import study_table
from study.config.reading import read_studies, read_study
from study.execution.launch import StudyError, StudyResult, run_study
from study.reporting.dry_run import print_plan, print_spaces
from study.reporting.exports import side_by_side
from study.reporting.summary import print_summary
from study.storage.locations import OUT
from study.storage.study_folder import StudyFolder
from study.storage.sync import StorageError
from trainables.checkpointing.object_store import StoreError, is_uri
from trainables.configuration.command import command

CLUSTER = Path("cluster/cluster.yaml")
"""Default of ``--cluster``."""


@command(
    bad_input=(ValueError, StoreError),
    failures={
        StudyError: "The study failed: {error}",
        StorageError: (
            "Study stopped, because results can no longer be saved: {error} Resume with the same "
            "command and --resume."
        ),
    },
)
def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Those of the process if ``None``.

    Returns:
        Exit code: 0 for success, 1 if the study failed, 2 for invalid input, 130 if interrupted.
    """
    options = _parser().parse_args(arguments)
    console = Console(stderr=False)
    if options.list:
        print_spaces(console)
        return 0
    if options.space is None:
        raise ValueError("--space NAME|FILE is required; --list shows the shipped spaces.")
    overrides = _overrides(options)
    if options.dry_run:
        print_plan(options.space, overrides, console)
        return 0
    if options.simulate is not None:
        # Imported here because it is slow to import and rarely used.
        from study.reporting.simulation import print_simulation

        print_simulation(*read_study(options.space, overrides), options.simulate, console)
        return 0
    if options.cluster or options.address:
        _check_storage(options.storage)
    if options.cluster or "://" in (options.address or ""):
        return _submit(options, overrides)
    return _run(options, overrides, console)


def _parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m study.run", description="Run a hyperparameter study."
    )
    parser.add_argument(
        "--space", metavar="NAME|FILE", help="name or YAML file of the search space; see --list"
    )
    parser.add_argument("--trials", type=int, metavar="N", help="number of trials in the search")
    parser.add_argument(
        "--time",
        metavar="2h",
        help="time limit for starting new trials; running trials are completed",
    )
    parser.add_argument(
        "--budget-epochs",
        type=float,
        metavar="N",
        help="total number of epochs that the search may train; the search ends at the first of "
        "the limits --trials, --time and --budget-epochs",
    )
    parser.add_argument(
        "--concurrency", type=int, metavar="N", help="maximum number of trials at a time"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="number of worker processes per trial"
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="seed of the search and of its trials"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"folder for studies (default: {OUT})"
    )
    parser.add_argument(
        "--storage",
        metavar="DIR|s3://…",
        help="location of a study that runs on several machines: a folder that all of them see, "
        "in place of --out, or an object store, with working copies in --out",
    )
    parser.add_argument(
        "--name",
        help="name of the study folder in --out (default: the name of the space, numbered if it "
        "is taken)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="download folder for tasks that name none (default: the environment variable "
        "SYN2REAL_DATA)",
    )
    parser.add_argument(
        "--address",
        metavar="ADDRESS",
        help="run on a Ray cluster: auto or HOST:PORT for the cluster that this machine belongs "
        "to, http://HOST:PORT for the job server of another one",
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
        help="folder or URI of an earlier study; its best configurations are tried first, as far "
        "as the space allows their values",
    )
    parser.add_argument(
        "--warm-start-best",
        type=int,
        default=3,
        metavar="K",
        help="number of configurations to take from each condition of that study "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--known-results",
        metavar="STUDY",
        help="folder or URI of an earlier study of the same task and fixed settings; the sampler "
        "starts from its results, and none of its trials run again",
    )
    parser.add_argument("--resume", action="store_true", help="resume an interrupted study")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change a value of the space, e.g. fixed.schedule.num_epochs=2; may be repeated",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check the space, show example trials and the cost, and exit",
    )
    parser.add_argument(
        "--simulate",
        type=Path,
        metavar="CURVES",
        help="search over a model of recorded trials (a study folder or a table of learning "
        "curves), show what the sampler and pruner of the space save, and exit",
    )
    parser.add_argument("--list", action="store_true", help="list the shipped spaces and exit")
    return parser


def _overrides(options: argparse.Namespace) -> list[str]:
    """Return ``key=value`` for every option that changes the space; ``--set`` comes last."""
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
    """Raise a ``ValueError`` unless all machines of a cluster can see the storage."""
    if place is None or not (is_uri(place) or Path(place).is_absolute()):
        raise ValueError(
            "--storage: is required on a cluster, as s3://BUCKET/PREFIX or the absolute path of a "
            f"folder that all its machines see, got {place}."
        )


def _submit(options: argparse.Namespace, overrides: list[str]) -> int:
    """Run the study as a job of a cluster; return its exit code."""
    from study.jobs.packing import Submission, check_paths
    from study.jobs.submit import submit

    if options.cluster and options.address:
        raise ValueError("--cluster and --address: give only one of them.")
    for study, space in read_studies(options.space, overrides):  # errors show before the upload
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
    """Return the arguments that mean the same on this machine and on the cluster."""
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
    """Run the study in this process and show its results; return the exit code."""
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
    _print_results(result, console)
    if result.interrupted:
        console.print(
            _how_to_resume(options, overrides, result.name),
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return 130
    return 0


def _print_results(result: StudyResult, console: Console) -> None:
    """Show the comparison of each task, and where its files are."""
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
        console.print(side_by_side(study_table(read_all(folders))))


def _how_to_resume(options: argparse.Namespace, overrides: list[str], name: str) -> str:
    """Tell the user how to resume the study, by the command itself where possible."""
    if options.address:  # a job, whose user has given another command
        return f"Interrupted. To resume, start it in the same way with --name {name} --resume."
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
    return f"Interrupted. To resume:\n  {shlex.join(command)}"


if __name__ == "__main__":
    sys.exit(main())
