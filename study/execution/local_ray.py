"""Starts a Ray instance for one study on this machine.

The instance is not shared: its size is that of the study, its files are in a folder of its own,
and it ends with the study. ``ray.init()`` alone could join an instance that somebody else runs.
"""

import study.execution.ray_settings  # noqa: F401 - before Ray

# isort: split
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import ray
from filelock import FileLock, Timeout

from trainables.ray_trainable import POLL_SECONDS
from trainables.trial_config import SLOT

log = logging.getLogger(__name__)

SCRATCH_PREFIX = "s2r-"
"""Prefix of the temporary folder for Ray's files. It is short because the folder contains Unix
sockets, whose paths must not exceed 107 bytes."""

ACTOR_NAME = ":actor_name:"
"""Marks the line of a worker's output that names its actor."""

PROCESSES = ("TrialTrainable", "WorkersTrainable", "RayTrainWorker", "TrainController")
"""Names of the actors whose output is copied to the study's log."""

START_DELAY_SECONDS = 0.3
"""Seconds before Ray starts. Most problems of the data show sooner, and need no Ray then."""

MAX_LINES = 1000
"""Maximum number of lines to copy from the output of each actor; the last ones are kept."""


@contextmanager
def own_ray(num_cpus: int, num_slots: int) -> Iterator[Callable[[], None]]:
    """Start a Ray instance in the background, and shut it down at the end.

    Ray takes seconds to start, in which the caller opens the data.

    Args:
        num_cpus: Number of CPU cores that trials may occupy.
        num_slots: Maximum number of multi-worker trials at a time.

    Yields:
        A callable that blocks until Ray is up, and raises a ``ValueError`` if it does not start.
    """
    check_unused()
    # Ray Train delivers reports when it polls the workers, every two seconds by default.
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = str(POLL_SECONDS)
    _remove_leftovers()
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX))
    over = threading.Event()

    def start() -> None:
        if not over.wait(START_DELAY_SECONDS):
            _start_ray(num_cpus, num_slots, scratch)

    with FileLock(scratch / "lock"), ThreadPoolExecutor(1) as background:
        started = background.submit(start)
        try:
            yield started.result
        finally:
            over.set()
            wait([started])
            ray.shutdown()
            _copy_output_to_log(scratch)
            shutil.rmtree(scratch, ignore_errors=True)


def check_unused() -> None:
    """Raise a ``ValueError`` if this process is already connected to a Ray instance."""
    if ray.is_initialized():
        raise ValueError(
            "a study connects to Ray itself, but this process is already connected. Call "
            "ray.shutdown() first."
        )


def _start_ray(num_cpus: int, num_slots: int, scratch: Path) -> None:
    """Start Ray with its files in a folder; raise a ``ValueError`` if it does not start."""
    try:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            resources={SLOT: num_slots},
            include_dashboard=False,
            # Bytes. Trials exchange only reports; by default Ray takes 30 % of the memory.
            object_store_memory=200_000_000,
            logging_level=logging.ERROR,
            log_to_driver=False,  # the output would break the progress display
            _temp_dir=str(scratch),
        )
    except Exception as error:
        raise ValueError(f"Ray does not start: {error}") from error
    log_quietly()


def log_quietly() -> None:
    """Send messages of Ray's loggers to the root logger, and so to the study's log."""
    logger = logging.getLogger("ray")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.WARNING)
    logging.getLogger("ray.tune.analysis").setLevel(
        logging.ERROR
    )  # warns about files that trials do not write


def _remove_leftovers() -> None:
    """Remove Ray's files of killed studies, whose locks nobody holds."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*"):
        try:
            if (folder / "lock").exists():
                with FileLock(folder / "lock", timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):  # in use, or another user's
            continue


def _copy_output_to_log(scratch: Path) -> None:
    """Copy the output of the trials' processes to the study's log."""
    for path in sorted(scratch.glob("session_latest/logs/worker-*")):
        lines = path.read_text(errors="replace").splitlines()
        actor = next((line for line in lines if line.startswith(ACTOR_NAME)), "")
        printed = [line for line in lines if line and not line.startswith(":")]
        if printed and actor.removeprefix(ACTOR_NAME) in PROCESSES:
            log.info("%s:\n%s", path.name, "\n".join(printed[-MAX_LINES:]))
