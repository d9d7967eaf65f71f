"""A Ray of the study's own on this machine."""

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

from trainables.config import SLOT
from trainables.ray_trainable import POLL_SECONDS

log = logging.getLogger(__name__)

SCRATCH_PREFIX = "s2r-"
"""Of the folders of Ray's own files; short, for the sockets in them."""

ACTOR_NAME = ":actor_name:"
"""How Ray marks a process's output."""

PROCESSES = ("TrialTrainable", "WorkersTrainable", "RayTrainWorker", "TrainController")
"""Those whose output the study's log keeps."""

GRACE_TIMEOUT_SECONDS = 0.3
"""Before Ray is started: bad data mostly show themselves sooner."""

MAX_LINES = 1000
"""Of each process's output that it keeps."""


@contextmanager
def own_ray(num_cpus: int, num_slots: int) -> Iterator[Callable[[], None]]:
    """A Ray of this study's own on this machine, quiet, gone afterwards.

    It starts in the background, so that data can be opened meanwhile; and after a moment, in which
    the data may turn out to be no good.

    Args:
        num_cpus: CPU cores that trials may occupy.
        num_slots: Trials of several workers at a time.

    Yields:
        What waits until Ray runs. It raises a ``ValueError`` if Ray does not start.
    """
    check_unused()
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = str(POLL_SECONDS)
    _remove_leftovers()
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX))
    over = threading.Event()

    def start() -> None:
        if not over.wait(GRACE_TIMEOUT_SECONDS):
            _start_ray(num_cpus, num_slots, scratch)

    with FileLock(scratch / "lock"), ThreadPoolExecutor(1) as background:
        started = background.submit(start)
        try:
            yield started.result
        finally:
            over.set()
            wait([started])
            ray.shutdown()
            _keep_output(scratch)
            shutil.rmtree(scratch, ignore_errors=True)


def check_unused() -> None:
    """Raise a ``ValueError`` if this process is connected to a Ray already."""
    if ray.is_initialized():
        raise ValueError(
            "a study starts or joins a Ray, and this process uses one already. "
            "Call ray.shutdown() first."
        )


def _start_ray(num_cpus: int, num_slots: int, scratch: Path) -> None:
    try:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            resources={SLOT: num_slots},
            include_dashboard=False,
            object_store_memory=200_000_000,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _temp_dir=str(scratch),
        )
    except Exception as error:
        raise ValueError(f"Ray does not start: {error}") from error
    log_quietly()


def log_quietly() -> None:
    """What Ray's loggers say goes to the root logger, that is to the study's log."""
    logger = logging.getLogger("ray")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.WARNING)
    logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)  # misses files we don't want


def _remove_leftovers() -> None:
    """Removes Ray's files of studies that were killed: nobody holds their locks."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*"):
        try:
            if (folder / "lock").exists():
                with FileLock(folder / "lock", timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):  # in use, or another user's
            continue


def _keep_output(scratch: Path) -> None:
    """Copies what the trials' processes printed into the study's log."""
    for path in sorted(scratch.glob("session_latest/logs/worker-*")):
        lines = path.read_text(errors="replace").splitlines()
        actor = next((line for line in lines if line.startswith(ACTOR_NAME)), "")
        printed = [line for line in lines if line and not line.startswith(":")]
        if printed and actor.removeprefix(ACTOR_NAME) in PROCESSES:
            log.info("%s:\n%s", path.name, "\n".join(printed[-MAX_LINES:]))
