"""A trial that a study has handed out, and the record that it turns into."""

from dataclasses import dataclass, field
from functools import cached_property

from study.spaces.conditions import file_name
from study.trials.records import EvaluationRecord, Outcome, Stage, TrialRecord
from trainables.training.report import Report
from trainables.trial_config import SelectionConfig, TrialConfig


@dataclass
class RunningTrial:
    """A run that has not ended: a trial on one task."""

    id: str
    stage: Stage
    condition: str
    config: TrialConfig
    params: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    number: int | None = None
    """The trial's number in Optuna; ``None`` for final runs."""
    paths: dict[str, str] = field(default_factory=dict)
    """Paths as the space spells them; see :class:`study.trials.records.TrialRecord`."""
    reports: list[Report] = field(default_factory=list)
    """The reports of training and test, without repetitions."""
    latest: Report | None = None
    """The last report of any phase."""
    restarts: int = 0

    @property
    def method(self) -> str:
        """The method's name."""
        return self.config.method.name

    @cached_property
    def identity(self) -> str:
        """The configuration's digest."""
        return self.config.identity()

    @property
    def seed(self) -> int:
        """The configuration's seed."""
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
        """The reports of training."""
        return [report for report in self.reports if report.phase == "training"]

    @property
    def objective_floor(self) -> float | None:
        """An objective below it means that the source is not learned; ``None`` if unknown."""
        return self.reports[-1].objective_floor if self.reports else None

    @property
    def outcome(self) -> None:
        """``None``, as opposed to a record's."""

    def has_reported(self, report: Report) -> bool:
        """Return whether a report repeats one: a restarted trial retraces its steps."""
        if report.phase == "pretraining" or not self.reports:
            return False
        last = self.reports[-1]
        return report.evaluation < last.evaluation or (
            report.evaluation == last.evaluation and report.phase == last.phase
        )


def search_id(number: int, task: str | None = None) -> str:
    """Return the id of a search trial, or of its run on one of several tasks."""
    return f"{number:04d}" if task is None else f"{number:04d}-{task}"


def final_run(winner: TrialRecord, seed: int, task: str | None = None) -> RunningTrial:
    """Return the run of a winner's configuration on another seed, with the test sets opened.

    Args:
        winner: A record of the search.
        seed: A seed that the search did not use.
        task: The name of its task in a joint search.
    """
    config = winner.trial_config
    evaluation = config.evaluation.model_copy(update={"test": True})
    config = config.model_copy(update={"seed": seed, "evaluation": evaluation})
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
    """Return the record of a run that ended."""
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
        objective_floor=trial.objective_floor,
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
