"""Checks and locks before the first trial of a study."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from study.config.study_config import StudyConfig, with_present_names
from study.storage.locations import Storage
from study.storage.study_folder import NOTE, StudyFolder
from trainables.checkpointing.files import make_writable
from trainables.configuration.yaml_file import parse_yaml
from trainables.training.checks import check_trials, fetch_weights
from trainables.trial_config import TrialConfig


def choose_folders(
    storage: Storage, name: str, studies: Sequence[StudyConfig], resume: bool, fresh: bool
) -> tuple[str, list[StudyFolder]]:
    """Choose the name and the folders of the studies of a space.

    Args:
        storage: Location of the studies.
        name: Requested name.
        studies: One per task, or a joint one.
        resume: Choose folders of which at least one holds a study.
        fresh: Number the name if it is taken; with ``resume``, take the highest number.

    Returns:
        The name, and the folder of each study.

    Raises:
        ValueError: The name is invalid or taken, or there is nothing to resume.
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise ValueError(f"--name: must be the plain name of a folder, got '{name}'.")
    ends = [f"-{study.task_names[0]}" for study in studies] if len(studies) > 1 else [""]
    names = [name, *(f"{name}-{i}" for i in range(2, 10_000))] if fresh else [name]
    present = storage.names()
    there = {each: [f"{each}{end}" for end in ends if f"{each}{end}" in present] for each in names}

    def study_folders(chosen: str) -> list[StudyFolder]:
        return [storage.study_folder(f"{chosen}{end}") for end in ends]

    if resume:
        begun = next(
            (
                each
                for each in reversed(names)
                if any(
                    storage.study_folder(folder).description() is not None
                    for folder in there[each]
                )
            ),
            None,
        )
        if begun is None:
            raise ValueError(
                f"{study_folders(name)[0].place}: no study to resume here. Start a new one "
                "without --resume."
            )
        return begun, study_folders(begun)
    if there[name] and not fresh:
        raise ValueError(
            f"{storage.study_folder(there[name][0]).place}: already exists. Choose another "
            "--name, or resume that study with --resume."
        )
    free = next(each for each in names if not there[each])
    return free, study_folders(free)


def check_same_study(study_folder: StudyFolder, study: StudyConfig) -> None:
    """Raise a ``ValueError`` if the folder holds a different study."""
    stored = with_present_names(parse_yaml(study_folder.description() or ""))
    given = study.model_dump(mode="json")
    # Keys that a resumed study may change: they decide how long it runs, not what a trial is.
    free: tuple[str, ...] = (
        "num_trials",
        "time_limit",
        "epoch_limit",
        "concurrency",
        "final_seeds",
        "max_restarts",
    )
    if "directory" not in stored:  # written by a version without this key
        free += ("directory",)
    different = sorted(
        key for key in {*stored, *given} if key not in free and stored.get(key) != given.get(key)
    )
    if different:
        copied = "" if study_folder.store is None else "a copy of "
        own = f"{copied}{study_folder.place}/{study_folder.space.name}"
        raise ValueError(
            f"{study_folder.place}: holds a different study; it differs in "
            f"{', '.join(different)}. Resume it with --space {own} --name "
            f"{study_folder.root.name}, or choose another --name."
        )


def check_data(configs: Sequence[TrialConfig], cache: Path) -> None:
    """Open the data and fetch the weights of trials, so that errors show before the first one."""
    make_writable(cache)  # may run on another machine than the study
    check_trials(configs, cache)
    fetch_weights(configs)


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders that hold nothing of value, such as those of a study that did not start.

    A cache with results of image checks stays.
    """
    for folder in folders:
        left = list(folder.iterdir()) if folder.is_dir() else []
        if folder.is_dir() and {path.name for path in left} <= {".lock", NOTE, "study.log"}:
            for path in left:
                path.unlink()
            folder.rmdir()


def lock_study(study_folder: StudyFolder) -> Any:
    """Lock a study folder until this process ends, even if it is killed.

    Raises:
        ValueError: Another process holds the lock.
    """
    lock = FileLock(study_folder.root / ".lock", timeout=0)
    try:
        return lock.acquire()
    except Timeout as error:
        raise ValueError(f"{study_folder.root}: this study is already running.") from error
