"""What is checked, and held, before a study's first trial."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from study.config.study_config import StudyConfig, with_present_names
from study.storage.locations import Storage
from study.storage.study_folder import NOTE, StudyFolder
from trainables.checkpointing.files import make_writable
from trainables.config import TrialConfig
from trainables.configuration.yaml_file import parse_yaml
from trainables.training.checks import check_trials, fetch_weights


def choose_folders(
    storage: Storage, name: str, studies: Sequence[StudyConfig], resume: bool, fresh: bool
) -> tuple[str, list[StudyFolder]]:
    """The studies' name and folders: with one of them to resume, else none of which exists."""
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
                f"{study_folders(name)[0].place}: no study to resume here. Without "
                "--resume a new one starts."
            )
        return begun, study_folders(begun)
    if there[name] and not fresh:
        raise ValueError(
            f"{storage.study_folder(there[name][0]).place}: exists already. Choose another "
            "--name, or go on with the study there by --resume."
        )
    free = next(each for each in names if not there[each])
    return free, study_folders(free)


def check_same_study(study_folder: StudyFolder, study: StudyConfig) -> None:
    """Raises a ``ValueError`` if the folder holds another study than this."""
    stored = with_present_names(parse_yaml(study_folder.description() or ""))
    given = study.model_dump(mode="json")
    free: tuple[str, ...] = (
        "num_trials",
        "time_limit",
        "epoch_limit",
        "concurrency",
        "final_seeds",
        "max_restarts",
    )
    if "directory" not in stored:  # of a version that did not write it down
        free += ("directory",)
    different = sorted(
        key for key in {*stored, *given} if key not in free and stored.get(key) != given.get(key)
    )
    if different:
        copied = "" if study_folder.store is None else "a copy of "
        own = f"{copied}{study_folder.place}/{study_folder.space.name}"
        raise ValueError(
            f"{study_folder.place}: holds another study; it differs in "
            f"{', '.join(different)}. Resume it with --space {own} --name "
            f"{study_folder.root.name}, or choose another --name."
        )


def check_data(configs: Sequence[TrialConfig], cache: Path) -> None:
    """Opens the data and fetches the weights, so that errors come before the first trial."""
    make_writable(cache)  # on another machine than the study's
    check_trials(configs, cache)
    fetch_weights(configs)


def remove_empty(folders: Sequence[Path]) -> None:
    """Removes what was made in vain; a cache that images have been checked for stays."""
    for folder in folders:
        left = list(folder.iterdir()) if folder.is_dir() else []
        if folder.is_dir() and {path.name for path in left} <= {".lock", NOTE, "study.log"}:
            for path in left:
                path.unlink()
            folder.rmdir()


def only_one(study_folder: StudyFolder) -> Any:
    """A lock that ends with the process, however it ends."""
    lock = FileLock(study_folder.root / ".lock", timeout=0)
    try:
        return lock.acquire()
    except Timeout as error:
        raise ValueError(f"{study_folder.root}: this study is running already.") from error
