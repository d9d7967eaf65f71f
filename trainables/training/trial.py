"""One trial from its configuration to its last evaluation: the whole story, top to bottom.

``run_trial`` is a generator. Whoever runs it (a Ray worker, torchrun, a test) takes reports for as
long as it likes and may stop, or be killed, at any point: the next ``run_trial`` on the same
folder goes on from the last evaluation, bit for bit.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from filelock import FileLock

from trainables.backbones import BACKBONES
from trainables.checkpointing.object_store import Stores
from trainables.checkpointing.trial_folder import TrialFolder
from trainables.config import CheckpointConfig, TrialConfig, pretraining_trial
from trainables.configuration.schema import look_up
from trainables.nn.networks import Backbone
from trainables.nn.weights import load_backbone
from trainables.runtime.distributed import Runtime
from trainables.runtime.randomness import seed_everything
from trainables.training.domains import open_domains
from trainables.training.report import Report
from trainables.training.trainer import Trainer


def run_trial(
    config: TrialConfig,
    folder: Path,
    cache: Path,
    runtime: Runtime | None = None,
    stores: Stores | None = None,
) -> Generator[Report, None, None]:
    """Runs a trial, or goes on with it.

    Args:
        config: All that decides the result.
        folder: The trial's own; where it keeps its checkpoints.
        cache: Shared between trials: rendered images, pre-trained backbones.
        runtime: Device and workers; one process on the CPU by default.
        stores: Where both folders are kept, if this machine may be gone tomorrow. All that the
            last report tells of is there before it is given.

    Yields:
        A report after each evaluation of pre-training, training and test.

    Raises:
        ValueError: The data or weights are not as they should be.
        TrialError: A loss is no longer finite.
        StoreError: A store does not take, or give, the trial's files.
    """
    runtime = runtime or Runtime()
    cache.mkdir(parents=True, exist_ok=True)
    files = TrialFolder(folder, stores.trial if stores else None)
    try:
        files.begin()
        if runtime.is_main:
            files.write_config(config.to_yaml())
        domains = open_domains(config, cache)
        backbone = yield from _initialized_backbone(config, cache, runtime, stores)
        training = Trainer(config, domains, backbone, files, runtime)
        yield from training.reports()
        if config.evaluation.test and not training.is_finished:
            yield training.test_report()
    finally:
        files.close()


def _initialized_backbone(
    config: TrialConfig, cache: Path, runtime: Runtime, stores: Stores | None
) -> Generator[Report, None, Backbone]:
    """Builds the backbone and fills it; pre-training happens here, once for all trials."""
    seed_everything(config.seed, "backbone")
    architecture = look_up(BACKBONES, config.backbone.name, "backbone")
    choice = config.initialization
    backbone = architecture.build(config.backbone.config, imagenet=choice.name == "imagenet")
    if isinstance(choice.config, CheckpointConfig):
        load_backbone(backbone, Path(choice.config.path).expanduser())
    elif choice.name == "pretraining":
        load_backbone(backbone, (yield from _pretrained(config, cache, runtime, stores)))
    return backbone.to(memory_format=torch.channels_last)  # faster convolutions


def _pretrained(
    config: TrialConfig, cache: Path, runtime: Runtime, stores: Stores | None
) -> Generator[Report, None, Path]:
    """The file of a pre-trained backbone, made here unless another trial has made it.

    A lock lets one trial at a time make it, on each machine where the cache is a machine's own;
    if that trial dies, the next one that waits goes on from its checkpoint.
    """
    pretraining = pretraining_trial(config)
    folder = cache / "pretraining" / pretraining.identity()
    if stores is not None:
        stores = replace(stores, trial=stores.cache / "pretraining" / folder.name)
    files = TrialFolder(folder, stores.trial if stores else None)
    if not runtime.broadcast_object(files.obtain()):
        with _lock_of_main(folder, runtime):
            if not runtime.broadcast_object(files.obtain()):
                for report in run_trial(pretraining, folder, cache, runtime, stores):
                    yield replace(report, phase="pretraining", finished=False)
                if runtime.is_main:
                    files.finish()
                runtime.broadcast_object(None)
    files.obtain()  # where another machine's worker has made it
    return files.best


@contextmanager
def _lock_of_main(folder: Path, runtime: Runtime) -> Iterator[None]:
    if not runtime.is_main:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        yield
