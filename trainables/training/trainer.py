"""The training loop of a trial: update, evaluate, select, report, save."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from trainables.checkpointing.tensors import load_tensors
from trainables.checkpointing.trial_folder import TrialFolder
from trainables.criteria import Criterion
from trainables.data.evaluation import Evaluation, OracleEvaluation
from trainables.data.loading import num_batches
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
from trainables.training.accumulation import GradientAccumulation, check_accumulation
from trainables.training.batches import TrainingBatches
from trainables.training.domains import usable_criteria
from trainables.training.evaluator import Evaluator
from trainables.training.progress import LossMeans, Progress, Stopwatch
from trainables.training.report import CRITERION_PREFIX, Phase, Report, TrialError
from trainables.training.selection import objective_floor, objectives
from trainables.trial_config import TrialConfig


class Trainer:
    """A method in training; continues from the folder's last checkpoint if there is one.

    Args:
        config: The trial's configuration.
        domains: The task's data.
        backbone: The feature extractor with its initial weights.
        files: The trial's checkpoints.
        runtime: Device and workers.

    Raises:
        ValueError: The checkpoint is another configuration's, or the method cannot accumulate
            gradients as configured.
    """

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
        self.stopwatch = Stopwatch()
        self.progress = Progress()
        self.accumulation = GradientAccumulation(config.gradient_accumulation_steps)
        self.method = self._build_method(backbone)
        self.steps_per_epoch = self._steps_per_epoch()
        self.num_steps = config.schedule.num_steps or (
            self.steps_per_epoch * (config.schedule.num_epochs or 0)
        )
        self.interval = config.evaluation.interval_steps or self.steps_per_epoch
        self.num_evaluations = math.ceil(self.num_steps / self.interval)
        self.batches = TrainingBatches(config, domains, self.method, runtime)
        self.criteria = usable_criteria(config, domains)
        self.evaluator = Evaluator(config, domains, self.method, runtime)
        self._restore()

    def _build_method(self, backbone: Backbone) -> Method:
        check_accumulation(self.config, backbone)
        seed_everything(self.config.seed, "method")
        method = METHODS.look_up(self.config.method.name)
        return method(
            self.config.method.config,
            backbone,
            len(self.domains.classes),
            self.accumulation.wrap(optimizer_factory(self.config.optimizer)),
            self.runtime,
        )

    def _steps_per_epoch(self) -> int:
        """Return the number of batches of the larger domain that the method reads."""
        sizes = [len(self.domains.source_train)]
        if self.method.uses_target and self.domains.target_train is not None:
            sizes.append(len(self.domains.target_train))
        return num_batches(max(sizes), self.config.batch_size)

    @property
    def is_finished(self) -> bool:
        """Whether the last report has been given."""
        return bool(self.progress.reports) and bool(self.progress.reports[-1]["finished"])

    def train(self) -> Iterator[Report]:
        """Repeat the reports up to the checkpoint, then train from there to the end."""
        yield from map(Report.read, self.progress.reports)
        batches = self.batches.starting_at(self.progress.step)
        losses = LossMeans(self.runtime)
        for step in range(self.progress.step, self.num_steps):
            at = (self.config.schedule, step, self.num_steps, self.steps_per_epoch)
            if step % self.steps_per_epoch == 0:
                self.method.begin_epoch(self.evaluator.views(), step // self.steps_per_epoch)
            for optimizer in self.method.optimizers.values():
                set_learning_rate(optimizer, learning_rate_factor(*at))
            batch = next(batches)
            # Dropout and the like are functions of the step, so a resumed trial draws the same.
            seed_everything(self.config.seed, "step", step, self.runtime.rank)
            losses.add(self.accumulation.update(self.method, batch, training_progress(*at)))
            self.progress.step = step + 1
            if (step + 1) % self.interval == 0 or step + 1 == self.num_steps:
                yield self._evaluate(losses.take(step))
                self.stopwatch.restart()

    def _evaluate(self, losses: dict[str, float]) -> Report:
        """Score the networks, keep them if they are the best so far, and save the trial."""
        evaluation, accuracies = self.evaluator.evaluation()
        metrics = {**losses, **self._scores(evaluation), **accuracies}
        if self._select(metrics) and self.runtime.is_main:
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
        """Return the score of every criterion; only those that declare it get target labels."""
        for domain, predictions in (("source", evaluation.source), ("target", evaluation.target)):
            if predictions.logits.softmax(dim=1).isnan().any():
                raise TrialError(
                    f"predictions on {domain} images are not finite after step "
                    f"{self.progress.step}."
                )
        scores = {}
        for name, criterion in self.criteria.items():
            if isinstance(criterion, Criterion):  # noqa: SIM114 - what each may see differs
                scores[f"{CRITERION_PREFIX}{name}"] = criterion.score(evaluation)
            elif isinstance(evaluation, OracleEvaluation):
                scores[f"{CRITERION_PREFIX}{name}"] = criterion.score(evaluation)
        for name, score in scores.items():
            if not math.isfinite(score):
                raise TrialError(f"{name} is {score} after step {self.progress.step}.")
        return scores

    def _select(self, metrics: dict[str, float]) -> bool:
        """Count a new evaluation and return whether it is the best so far."""
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

    def test(self) -> Report:
        """Measure the selected checkpoint on the task's test sets, which nothing else reads."""
        if self.runtime.is_main:
            self.files.wait()
        self.runtime.broadcast_object(None)  # a barrier: the checkpoint is in the store
        if not self.runtime.is_main:  # on another machine, the file is only in the store
            self.files.fetch(self.files.best)
        state = load_tensors(self.files.best, self.runtime.device)
        self.method.networks.load_state_dict(state["networks"])
        predictions = self.evaluator.target_predictions()
        if predictions and self.runtime.is_main:
            self.files.write_predictions(predictions)
        metrics, confusion = self.evaluator.test_metrics()
        if self.runtime.is_main:
            for name, counts in confusion.items():
                self.files.write_confusion(name, self.domains.classes, counts.tolist())
        report = self._report("test", metrics)
        self._save()
        return report

    def _report(self, phase: Phase, metrics: dict[str, float]) -> Report:
        seconds, cpu_seconds = self.stopwatch.lap(self.runtime)
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

    def _save(self) -> None:
        if self.runtime.is_main:
            self.files.save_latest(
                {
                    "config": self.config.identity(),
                    "progress": asdict(self.progress),
                    "method": self.method.state_dict(),
                }
            )
            if self.is_finished:  # whoever reads the last report relies on the files
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
