"""The training loop of a trial: update, evaluate, choose, report, save."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from torch import Tensor

from trainables.augmentations import AUGMENTATIONS, AugmentationConfig, consistency_view, normalize
from trainables.checkpointing.trial_folder import TrialFolder, load_tensors
from trainables.config import TrialConfig
from trainables.configuration.schema import Choice, look_up
from trainables.criteria import Criterion
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
from trainables.runtime.distributed import Runtime
from trainables.runtime.randomness import seed_everything
from trainables.tasks import Domains
from trainables.training.accumulation import check_accumulation, update_in_parts
from trainables.training.domains import usable_criteria
from trainables.training.evaluator import Evaluator
from trainables.training.progress import LossMeans, Progress, Stopwatch
from trainables.training.report import Phase, Report, TrialError
from trainables.training.selection import least_objective, objectives


class Trainer:
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
        self.clock = Stopwatch()
        self.progress = Progress()
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
        yield from [Report(**values) for values in self.progress.reports]
        batches = self._batches(self.progress.step)
        losses = LossMeans(self.runtime)
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
        if self.config.accumulation == 1:
            return self.method.update(batch, progress)
        return update_in_parts(self.method, batch, progress, self.config.accumulation)

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
            least_objective=least_objective(self.config.selection, len(self.domains.classes)),
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
        self.progress = Progress(**state["progress"])
        self.method.load_state_dict(state["method"])
