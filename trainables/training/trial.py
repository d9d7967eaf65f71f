"""One trial from its configuration to its last evaluation: the whole story, top to bottom.

``run_trial`` is a generator. Whoever runs it (a Ray worker, torchrun, a test) takes reports for as
long as it likes and may stop, or be killed, at any point: the next ``run_trial`` on the same
folder goes on from the last evaluation, bit for bit.
"""

import math
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock
from torch import Tensor

from trainables.augmentations import AUGMENTATIONS, AugmentationConfig, consistency_view, normalize
from trainables.backbones import BACKBONES
from trainables.checkpointing.object_store import Stores
from trainables.checkpointing.trial_folder import TrialFolder, load_tensors
from trainables.config import CheckpointConfig, TrialConfig, criteria_of, pretraining_trial
from trainables.configuration.schema import Choice, look_up
from trainables.criteria import CRITERIA, Criterion, LabelReadingCriterion
from trainables.data.batch import Batch
from trainables.data.evaluation import Evaluation, OracleEvaluation
from trainables.data.images import Images
from trainables.data.loading import Samples, num_batches, training_stream
from trainables.methods import METHODS, Method
from trainables.nn.networks import Backbone
from trainables.nn.optimization import (
    learning_rate_factor,
    optimizer_factory,
    set_learning_rate,
    training_progress,
)
from trainables.nn.weights import load_backbone
from trainables.runtime.distributed import Runtime
from trainables.runtime.randomness import seed_everything
from trainables.tasks import TASKS, Domains
from trainables.training.accumulation import check_accumulation, update_in_parts
from trainables.training.evaluator import Evaluator
from trainables.training.selection import objective_floor, objectives

Phase = Literal["pretraining", "training", "test"]


class TrialError(RuntimeError):
    """The trial cannot go on, for a reason that trying again would not change."""


@dataclass(frozen=True)
class Report:
    """How a trial stands after an evaluation."""

    phase: Phase
    """Pre-training counts epochs and evaluations of its own."""
    evaluation: int
    """Counted from 1; grows by 1 with each report of the training phase."""
    num_evaluations: int
    epoch: float
    """Epochs done, with fractions where evaluations are more frequent."""
    num_epochs: float
    objective: float
    """The criterion at the best checkpoint so far; what a search maximises and compares. Of an
    average of ranks, the mean rank among the trial's own evaluations."""
    best_evaluation: int
    """Where that checkpoint was."""
    metrics: dict[str, float]
    """``loss/…`` means since the last report, ``criterion/…``, ``source_val/…``, and after the
    test phase ``<test set>/…``; accuracies are fractions."""
    seconds: float
    """Wall-clock time of the trial so far, interruptions left out."""
    cpu_seconds: float
    """Processor time of its worker processes so far."""
    finished: bool
    """Whether this is the trial's last report."""
    objective_floor: float | None = None
    """Below it, the source of the best checkpoint is not learned; unknown in reports of earlier
    versions."""

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Report":
        """Restore a report from a checkpoint, also from one that version 0.1 wrote."""
        present = dict(values)
        if "least_objective" in present:
            present["objective_floor"] = present.pop("least_objective")
        return cls(**present)


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
        training = _Training(config, domains, backbone, files, runtime)
        yield from training.reports()
        if config.evaluation.test and not training.is_finished:
            yield training.test_report()
    finally:
        files.close()


def open_domains(config: TrialConfig, cache: Path) -> Domains:
    """Opens the trial's task.

    Raises:
        ValueError: The data are not as they should be, or method or criterion need a target, or
            its labels, and the task has none.
    """
    domains = look_up(TASKS, config.task.name, "task").load(config.task.config, cache)
    check_domains(config, domains)
    return domains


def check_domains(config: TrialConfig, domains: Domains) -> None:
    """Whether a task's data have what the trial's method and criterion read.

    Raises:
        ValueError: They need a target, or its labels, and the task has none.
    """
    if look_up(METHODS, config.method.name, "method").uses_target and not domains.target_train:
        raise ValueError(
            f"method '{config.method.name}' adapts to a target, and task "
            f"'{config.task.name}' has none."
        )
    usable_criteria(config, domains)


def usable_criteria(
    config: TrialConfig, domains: Domains
) -> dict[str, Criterion | LabelReadingCriterion]:
    """Every criterion that the task's data allow; the selecting ones have to be among them."""
    own = criteria_of(config.selection.criterion)
    entries = {**CRITERIA, **{name: look_up(CRITERIA, name, "criterion") for name in own}}
    if domains.target_train is None:
        entries = {"source_validation": entries["source_validation"]}
    if domains.target_val is None:
        entries = {name: e for name, e in entries.items() if not e.reads_target_labels}
    for name in own:
        if name not in entries:
            what = "target labels" if domains.target_train else "a target"
            raise ValueError(
                f"criterion '{name}' needs {what}, which task '{config.task.name}' does not have."
            )
    return {name: entry() for name, entry in entries.items()}


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


@dataclass
class _Progress:
    """What a trial carries from report to report, beside its method's state."""

    step: int = 0
    evaluation: int = 0
    objective: float = -math.inf
    best_evaluation: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    reports: list[dict[str, Any]] = field(default_factory=list)


class _Training:
    """A method, its data, and the loop."""

    def __init__(
        self,
        config: TrialConfig,
        domains: Domains,
        backbone: Backbone,
        files: TrialFolder,
        runtime: Runtime,
    ) -> None:
        self.config = config
        self.domains = domains
        self.files = files
        self.runtime = runtime
        self.clock = _Clock()
        self.progress = _Progress()
        self.method = self._build_method(backbone)
        self.steps_per_epoch = self._steps_per_epoch()
        self.num_steps = config.schedule.num_steps or (
            self.steps_per_epoch * (config.schedule.num_epochs or 0)
        )
        self.interval = config.evaluation.interval_steps or self.steps_per_epoch
        self.num_evaluations = math.ceil(self.num_steps / self.interval)
        self.criteria = usable_criteria(config, domains)
        self.meter = Evaluator(config, domains, self.method, runtime)
        self._restore()

    def _build_method(self, backbone: Backbone) -> Method:
        check_accumulation(self.config, backbone)
        seed_everything(self.config.seed, "method")
        method = look_up(METHODS, self.config.method.name, "method")
        return method(
            self.config.method.config,
            backbone,
            len(self.domains.classes),
            optimizer_factory(self.config.optimizer),
            self.runtime,
        )

    def _steps_per_epoch(self) -> int:
        """Batches of the larger domain that the method reads."""
        sizes = [len(self.domains.source_train)]
        if self.method.uses_target and self.domains.target_train is not None:
            sizes.append(len(self.domains.target_train))
        return num_batches(max(sizes), self.config.batch_size)

    @property
    def is_finished(self) -> bool:
        """Whether the last report has been given."""
        return bool(self.progress.reports) and bool(self.progress.reports[-1]["finished"])

    # The loop

    def reports(self) -> Iterator[Report]:
        """Repeats the reports of what is done, then trains from there to the end."""
        yield from map(Report.read, self.progress.reports)
        batches = self._batches(self.progress.step)
        losses = _LossMeans(self.runtime)
        for step in range(self.progress.step, self.num_steps):
            at = (self.config.schedule, step, self.num_steps, self.steps_per_epoch)
            if step % self.steps_per_epoch == 0:
                self.method.begin_epoch(self.meter.views(), step // self.steps_per_epoch)
            for optimizer in self.method.optimizers.values():
                set_learning_rate(optimizer, learning_rate_factor(*at))
            batch = next(batches)
            seed_everything(self.config.seed, "step", step, self.runtime.rank)
            losses.add(self._update(batch, training_progress(*at)))
            self.progress.step = step + 1
            if (step + 1) % self.interval == 0 or step + 1 == self.num_steps:
                yield self._evaluate(losses.take(step))
                self.clock.restart()

    def _update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        if self.config.gradient_accumulation_steps == 1:
            return self.method.update(batch, progress)
        return update_in_parts(
            self.method, batch, progress, self.config.gradient_accumulation_steps
        )

    def _evaluate(self, losses: dict[str, float]) -> Report:
        evaluation, accuracies = self.meter.evaluation()
        metrics = {**losses, **self._scores(evaluation), **accuracies}
        if self._choose(metrics) and self.runtime.is_main:
            self.files.save_best(
                {
                    "networks": self.method.networks.state_dict(),
                    "classes": list(self.domains.classes),
                    "geometry": asdict(self.domains.geometry),
                }
            )
        report = self._report("training", metrics)
        self._save()
        return report

    def _scores(self, evaluation: Evaluation) -> dict[str, float]:
        """All criteria; those that read target labels are the only ones to be given them."""
        for domain, predictions in (("source", evaluation.source), ("target", evaluation.target)):
            if predictions.logits.softmax(dim=1).isnan().any():
                raise TrialError(
                    f"predictions on {domain} images are not finite after step "
                    f"{self.progress.step}."
                )
        scores = {}
        for name, criterion in self.criteria.items():
            if isinstance(criterion, Criterion):  # noqa: SIM114 - what each may see differs
                scores[f"criterion/{name}"] = criterion.score(evaluation)
            elif isinstance(evaluation, OracleEvaluation):
                scores[f"criterion/{name}"] = criterion.score(evaluation)
        for name, score in scores.items():
            if not math.isfinite(score):
                raise TrialError(f"{name} is {score} after step {self.progress.step}.")
        return scores

    def _choose(self, metrics: dict[str, float]) -> bool:
        """Whether the newest evaluation is better than the best so far, which it then becomes."""
        progress = self.progress
        history = [report["metrics"] for report in progress.reports] + [metrics]
        values = objectives(self.config.selection, len(self.domains.classes), history)
        progress.evaluation += 1
        best = progress.best_evaluation
        is_better = best == 0 or values[-1] > values[best - 1]
        if is_better:
            progress.best_evaluation = progress.evaluation
        progress.objective = values[progress.best_evaluation - 1]
        return is_better

    def _report(self, phase: Phase, metrics: dict[str, float]) -> Report:
        seconds, cpu_seconds = self.clock.lap(self.runtime)
        self.progress.seconds += seconds
        self.progress.cpu_seconds += cpu_seconds
        last = self.progress.evaluation == self.num_evaluations
        report = Report(
            phase=phase,
            evaluation=self.progress.evaluation,
            num_evaluations=self.num_evaluations,
            epoch=self.progress.step / self.steps_per_epoch,
            num_epochs=self.num_steps / self.steps_per_epoch,
            objective=self.progress.objective,
            best_evaluation=self.progress.best_evaluation,
            metrics=metrics,
            seconds=self.progress.seconds,
            cpu_seconds=self.progress.cpu_seconds,
            finished=last and (phase == "test" or not self.config.evaluation.test),
            objective_floor=objective_floor(self.config.selection, len(self.domains.classes)),
        )
        self.progress.reports.append(asdict(report))
        return report

    # Data

    def _batches(self, first_step: int) -> Iterator[Batch]:
        augmentation = self.config.augmentation
        target_augmentation = self.config.target_augmentation or augmentation
        source = self._stream(self.domains.source_train.images, "source", augmentation, first_step)
        labels = self.domains.source_train.labels
        target: Iterator[Samples] | None = None
        if self.method.uses_target and self.domains.target_train is not None:
            target = self._stream(
                self.domains.target_train.images,
                "target",
                target_augmentation,
                first_step,
                second_view=self.method.needs_target_views,
            )
        device = self.runtime.device
        for samples in source:
            images = self._normalized(samples.images)
            other = next(target) if target is not None else None
            yield Batch(
                images,
                labels[samples.indices].to(device, non_blocking=True),
                samples.indices.to(device, non_blocking=True),
                self._normalized(other.images) if other else images[:0],
                (other.indices if other else samples.indices[:0]).to(device, non_blocking=True),
                self._normalized(other.views) if other and other.views is not None else None,
            )

    def _stream(
        self,
        images: Images,
        name: str,
        choice: Choice[AugmentationConfig],
        first_step: int,
        second_view: bool = False,
    ) -> Iterator[Samples]:
        entry = look_up(AUGMENTATIONS, choice.name, "augmentation")
        views = consistency_view(self.domains.geometry) if second_view else None
        return training_stream(
            images,
            entry.build(choice.config, self.domains.geometry),
            images_per_draw=choice.config.images_per_draw,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            stream=name,
            first_step=first_step,
            runtime=self.runtime,
            num_workers=self.config.loader_workers,
            views=views,
        )

    def _normalized(self, images: Tensor) -> Tensor:
        on_device = images.to(self.runtime.device, non_blocking=True)
        return normalize(on_device, self.config.normalization)

    def test_report(self) -> Report:
        """Measures the selected checkpoint on the task's test sets: their only use."""
        if self.runtime.is_main:
            self.files.wait()
        self.runtime.broadcast_object(None)
        if not self.runtime.is_main:  # another machine has saved it
            self.files.fetch(self.files.best)
        state = load_tensors(self.files.best, self.runtime.device)
        self.method.networks.load_state_dict(state["networks"])
        predictions = self.meter.target_predictions()
        if predictions and self.runtime.is_main:
            self.files.write_predictions(predictions)
        metrics, confusion = self.meter.test_metrics()
        if self.runtime.is_main:
            for name, counts in confusion.items():
                self.files.write_confusion(name, self.domains.classes, counts.tolist())
        report = self._report("test", metrics)
        self._save()
        return report

    # State

    def _save(self) -> None:
        if self.runtime.is_main:
            self.files.save_latest(
                {
                    "config": self.config.identity(),
                    "progress": asdict(self.progress),
                    "method": self.method.state_dict(),
                }
            )
            if self.is_finished:
                self.files.wait()

    def _restore(self) -> None:
        if not self.runtime.broadcast_object(self.files.latest.exists()):
            return
        state: dict[str, Any] = load_tensors(self.files.latest, self.runtime.device)
        if state["config"] != self.config.identity():
            raise ValueError(
                f"{self.files.latest}: belongs to another configuration "
                f"({state['config']}, not {self.config.identity()})."
            )
        self.progress = _Progress(**state["progress"])
        self.method.load_state_dict(state["method"])


class _LossMeans:
    """Means of loss terms over steps and workers, summed on the device without waiting for it."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.sums: dict[str, Tensor] = {}
        self.steps = 0

    def add(self, losses: dict[str, Tensor]) -> None:
        """Counts one step."""
        for name, value in losses.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.steps += 1

    def take(self, step: int) -> dict[str, float]:
        """The means since the last call.

        Raises:
            TrialError: One of them is not finite.
        """
        names = sorted(self.sums)
        sums = torch.stack([self.sums[name].double() for name in names])[None]
        means = self.runtime.all_gather(sums).mean(dim=0) / self.steps
        for name, mean in zip(names, means.tolist(), strict=True):
            if not math.isfinite(mean):
                raise TrialError(f"loss '{name}' is {mean} by step {step + 1}.")
        self.sums, self.steps = {}, 0
        return {f"loss/{name}": mean for name, mean in zip(names, means.tolist(), strict=True)}


class _Clock:
    """Wall-clock and processor time since the last lap."""

    wall: float
    cpu: float

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Leaves out the time since the last lap: it was the reader's of the reports."""
        self.wall, self.cpu = time.monotonic(), time.process_time()

    def lap(self, runtime: Runtime) -> tuple[float, float]:
        """Seconds of this process, and processor seconds of all workers."""
        wall, cpu = time.monotonic(), time.process_time()
        mine = torch.tensor([cpu - self.cpu], device=runtime.device, dtype=torch.float64)
        elapsed = wall - self.wall
        self.wall, self.cpu = wall, cpu
        return elapsed, float(runtime.all_gather(mine).sum())
