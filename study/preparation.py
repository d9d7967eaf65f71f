"""What is checked, and held, before a study's first trial."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from study.config import StudyConfig
from study.session import Layout
from trainables.checks import check_trials, fetch_weights
from trainables.config import TrialConfig


def choose_folders(out: Path, name: str, studies: Sequence[StudyConfig], resume: bool, fresh: bool
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


def check_same_study(layout: Layout, study: StudyConfig) -> None:
    """Raises a ``ValueError`` if the folder holds another study than this."""
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


def check_data(configs: Sequence[TrialConfig], cache: Path) -> None:
    """Opens the data and fetches the weights, so that errors come before the first trial."""
    check_trials(configs, cache)
    fetch_weights(configs)


def remove_empty(folders: Sequence[Path]) -> None:
    """Removes what was made in vain; a cache that images have been checked for stays."""
    for folder in folders:
        if folder.is_dir():
            for name in (".lock", "study.log"):
                (folder / name).unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()


def only_one(layout: Layout) -> Any:
    """A lock that ends with the process, however it ends."""
    lock = FileLock(layout.root / ".lock", timeout=0)
    try:
        return lock.acquire()
    except Timeout as error:
        raise ValueError(f"{layout.root}: this study is running already.") from error
