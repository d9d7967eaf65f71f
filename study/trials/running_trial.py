"""A trial that a study has handed out, and the record that becomes of it."""

from dataclasses import dataclass, field
from functools import cached_property

from study.spaces.conditions import file_name
from study.trials.records import EvaluationRecord, Outcome, Stage, TrialRecord
from trainables.config import SelectionConfig, TrialConfig
from trainables.training.report import Report


@dataclass
class RunningTrial:
    """A trial's run that has not ended."""

    id: str
    stage: Stage
    condition: str
    config: TrialConfig
    params: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    number: int | None = None
    """Optuna's; absent from final runs."""
    paths: dict[str, str] = field(default_factory=dict)
    """See :class:`study.trials.records.TrialRecord`."""
    reports: list[Report] = field(default_factory=list)
    """Of training and test, each once."""
    latest: Report | None = None
    """The last report of any phase."""
    restarts: int = 0

    @property
    def method(self) -> str:
        """The name of its method."""
        return self.config.method.name

    @cached_property
    def identity(self) -> str:
        """The configuration's digest."""
        return self.config.identity()

    @property
    def seed(self) -> int:
        """Its configuration's."""
        return self.config.seed

    @property
    def task(self) -> str:
        """The name of its task."""
        return self.config.task.name

    @property
    def selection(self) -> SelectionConfig:
        """How checkpoints are chosen."""
        return self.config.selection

    @property
    def evaluations(self) -> list[Report]:
        """Its reports of training."""
        return [report for report in self.reports if report.phase == "training"]

    @property
    def least_objective(self) -> float | None:
        """See :class:`study.trials.records.TrialRecord`."""
        return self.reports[-1].least_objective if self.reports else None

    @property
    def outcome(self) -> None:
        """None yet."""


def search_id(number: int, task: str | None = None) -> str:
    """The id of a trial of the search, or of its run on one of several tasks."""
    return f"{number:04d}" if task is None else f"{number:04d}-{task}"


def final_run(winner: TrialRecord, seed: int, task: str | None = None) -> RunningTrial:
    """The winner's configuration on another seed, with the test sets opened at the end.

    Args:
        winner: Of the search.
        seed: A fresh one.
        task: The name of its task, where a trial has several.
    """
    config = TrialConfig.model_validate(
        {
            **winner.config,
            "seed": seed,
            "evaluation": {**winner.config["evaluation"], "test": True},
        }
    )
    name = f"final-{file_name(winner.condition)}-seed{seed}"
    return RunningTrial(
        name if task is None else f"{name}-{task}",
        "final",
        winner.condition,
        config,
        winner.params,
        paths=winner.paths,
    )


def make_record(trial: RunningTrial, outcome: Outcome, reason: str | None) -> TrialRecord:
    """The record of a trial that ended."""
    training = [report for report in trial.reports if report.phase == "training"]
    test = [report.metrics for report in trial.reports if report.phase == "test"]
    last = trial.reports[-1] if trial.reports else None
    return TrialRecord(
        id=trial.id,
        stage=trial.stage,
        condition=trial.condition,
        method=trial.method,
        seed=trial.config.seed,
        outcome=outcome,
        reason=reason,
        params=trial.params,
        paths=trial.paths,
        identity=trial.identity,
        config=trial.config.model_dump(mode="json"),
        objective=last.objective if last else None,
        least_objective=trial.least_objective,
        best_evaluation=last.best_evaluation if last else 0,
        num_evaluations=last.num_evaluations if last else 0,
        evaluations=[
            EvaluationRecord(
                evaluation=r.evaluation, epoch=r.epoch, objective=r.objective, metrics=r.metrics
            )
            for r in training
        ],
        test=test[-1] if test else {},
        seconds=last.seconds if last else 0.0,
        cpu_seconds=last.cpu_seconds if last else 0.0,
        restarts=trial.restarts,
    )
