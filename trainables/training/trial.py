"""One trial, from its configuration to its last report.

:func:`run_trial` is a generator. Its caller (a Ray worker, torchrun, a test) takes reports for as
long as it likes, and may stop or be killed at any point: the next ``run_trial`` on the same folder
continues from the last evaluation, bit for bit.
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
from trainables.nn.networks import Backbone
from trainables.nn.weights import load_backbone
from trainables.runtime.distributed import Runtime
from trainables.runtime.randomness import seed_everything
from trainables.training.domains import open_domains
from trainables.training.report import Report
from trainables.training.trainer import Trainer
from trainables.trial_config import CheckpointConfig, TrialConfig, pretraining_trial


def run_trial(
    config: TrialConfig,
    folder: Path,
    cache: Path,
    runtime: Runtime | None = None,
    stores: Stores | None = None,
) -> Generator[Report, None, None]:
    """Run a trial, or continue one that was interrupted.

    Args:
        config: Everything that the result depends on.
        folder: The trial's own folder, where it keeps its checkpoints.
        cache: A folder that trials share, for rendered images and pre-trained backbones.
        runtime: Device and workers; one process on the CPU by default.
        stores: Object stores that keep both folders, for machines that may disappear. Whatever
            the last report describes is uploaded before that report is yielded.

    Yields:
        A report after each evaluation of pre-training, training and test.

    Raises:
        ValueError: The data or weights are missing, damaged or unsuitable.
        TrialError: A loss, a criterion or a prediction is no longer finite.
        StoreError: The trial's files cannot be uploaded or downloaded.
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
        trainer = Trainer(config, domains, backbone, files, runtime)
        yield from trainer.train()
        if config.evaluation.test and not trainer.is_finished:
            yield trainer.test()
    finally:
        files.close()


def _initialized_backbone(
    config: TrialConfig, cache: Path, runtime: Runtime, stores: Stores | None
) -> Generator[Report, None, Backbone]:
    """Build the backbone and load its initial weights, which may have to be pre-trained first."""
    seed_everything(config.seed, "backbone")
    architecture = BACKBONES.look_up(config.backbone.name)
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
    """Return the file of a pre-trained backbone, after pre-training it unless a trial has.

    Trials that share a cache pre-train one at a time: the others wait for the lock and then find
    the file. If the trial that holds the lock dies, the next one continues from its checkpoint.
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
                runtime.broadcast_object(None)  # a barrier: the file is complete
    files.obtain()  # a worker on another machine has it only in the store
    return files.best


@contextmanager
def _lock_of_main(folder: Path, runtime: Runtime) -> Iterator[None]:
    """Hold the lock of a folder in the main worker; the others follow its broadcasts."""
    if not runtime.is_main:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        yield
