"""Trials by formula, and a driver in Tune's place: a session sees no difference."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from study.config.study_config import StudyConfig
from study.session.session import Observer, Session
from study.spaces.search_space import SearchSpace
from study.storage.study_folder import StudyFolder
from study.trials.records import EvaluationRecord, Outcome, Stage, TrialRecord
from study.trials.running_trial import RunningTrial
from trainables.configuration.schema import validate
from trainables.training.report import Report
from trainables.trial_config import TrialConfig

STUDY: dict[str, Any] = {
    "task": "digits",
    "num_trials": 10,
    "seed": 3,
    "final_seeds": 2,
    "sampler": {"tpe": {"num_startup_trials": 4}},
    "pruner": {"asha": {"min_evaluations": 1, "reduction_factor": 2}},
    "fixed": {"backbone": "small_cnn", "schedule": {"num_epochs": 4}},
    "search": {
        "optimizer": {"learning_rate": {"log_uniform": [1e-5, 1e-1]}},
        "method": {
            "choice": {"no_adaptation": {}, "dann": {"domain_weight": {"uniform": [0.0, 1.0]}}}
        },
    },
}
NUM_EVALUATIONS = 4
TOO_LARGE = 2e-2
"""Learning rate above which trials fail after their first evaluation."""
REASON = "TrialError: loss 'classification' is nan by step 62."


def make_study(**changes: object) -> tuple[StudyConfig, SearchSpace]:
    """The study of :data:`STUDY` with other settings."""
    study = validate(StudyConfig, {**STUDY, **changes})
    return study, study.space()


def objective(config: TrialConfig, evaluation: int) -> float:
    """Grows with training and is best at a learning rate of 1e-3."""
    closeness = 1 - abs(math.log10(config.optimizer.learning_rate) + 3) / 4
    return closeness * (1 - 0.5**evaluation)


def training_report(config: TrialConfig, evaluation: int) -> Report:
    """What a trial reports after an evaluation."""
    value = objective(config, evaluation)
    last = evaluation == NUM_EVALUATIONS and not config.evaluation.test
    return Report(
        phase="training",
        evaluation=evaluation,
        num_evaluations=NUM_EVALUATIONS,
        epoch=float(evaluation),
        num_epochs=float(NUM_EVALUATIONS),
        objective=value,
        best_evaluation=evaluation,
        finished=last,
        seconds=2.0 * evaluation,
        cpu_seconds=1.5 * evaluation,
        objective_floor=0.0,
        metrics={
            "loss/classification": 1 - value,
            "criterion/bnm": value,
            "criterion/oracle": value / 2,
            "source_val/accuracy": 0.5 + value / 2,
        },
    )


def test_report_of(config: TrialConfig) -> Report:
    """The last report of a final run."""
    figures = {
        "target_test/accuracy": 0.7,
        "target_test/mean_class_accuracy": 0.6,
        "target_batchnorm/target_test/accuracy": 0.8,
    }
    return replace(
        training_report(config, NUM_EVALUATIONS), phase="test", finished=True, metrics=figures
    )


test_report_of.__test__ = False  # type: ignore[attr-defined]


def fails(config: TrialConfig) -> bool:
    """Whether the trial diverges."""
    return config.optimizer.learning_rate > TOO_LARGE


@dataclass
class Driver:
    """Hands a session what its trials say, in an order that depends on nothing but their state.

    ``checkpoints`` is what survives when the driver is killed.
    """

    session: Session
    checkpoints: dict[str, int]
    """Reports that each trial has made, by its id; trials repeat them when they go on."""
    concurrency: int = 1
    given: dict[str, int] = field(default_factory=dict)

    def events(self) -> Iterator[str]:
        """Runs the session to its end; stops for breath after each call that brings news."""
        while not self.session.is_over:
            yield from self._start_trials()
            trial = min(self.session.live.values(), key=lambda t: (self.given[t.id], t.id))
            count = self.given[trial.id] = self.given[trial.id] + 1
            is_news = count > self.checkpoints[trial.id]
            self.checkpoints[trial.id] = max(count, self.checkpoints[trial.id])
            self._tell(trial, count)
            if is_news:
                yield f"{trial.id} report {count}"

    def _start_trials(self) -> Iterator[str]:
        while len(self.session.live) < self.concurrency:
            trial = self.session.next_trial()
            if trial is None:
                assert self.session.live, "the session waits for nothing"
                return
            self.given[trial.id] = 0
            if trial.id not in self.checkpoints:
                self.checkpoints[trial.id] = 0
                yield f"{trial.id} starts"

    def _tell(self, trial: RunningTrial, count: int) -> None:
        if fails(trial.config) and count == 2:
            self.session.on_failure(trial.id, REASON)
        elif count <= NUM_EVALUATIONS:
            self.session.on_report(trial.id, training_report(trial.config, count))
        else:
            self.session.on_report(trial.id, test_report_of(trial.config))


def open_session(folder: Path, *observers: Observer, **changes: object) -> Session:
    """A session in ``folder``, new or gone on with."""
    folder.mkdir(parents=True, exist_ok=True)
    return Session(*make_study(**changes), StudyFolder(folder), observers)


def run_to_end(
    session: Session, concurrency: int = 1, checkpoints: dict[str, int] | None = None
) -> list[TrialRecord]:
    """Everything that a session leaves."""
    driver = Driver(session, {} if checkpoints is None else checkpoints, concurrency)
    for _ in driver.events():
        pass
    return session.records


def make_record(
    name: str,
    objectives: list[float],
    *,
    method: str = "dann",
    condition: str | None = None,
    stage: Stage = "search",
    outcome: Outcome = "complete",
    seed: int = 0,
    oracle: list[float] | None = None,
    test: dict[str, float] | None = None,
    params: dict[str, Any] | None = None,
) -> TrialRecord:
    """The record of a trial whose criterion took these values, one an evaluation."""
    config = validate(TrialConfig, {"task": "digits", "method": method, "seed": seed})
    best = [max(objectives[: i + 1]) for i in range(len(objectives))]
    evaluations = [
        EvaluationRecord(
            evaluation=i,
            epoch=float(i),
            objective=best[i - 1],
            metrics={
                "criterion/bnm": objectives[i - 1],
                "source_val/accuracy": 0.9,
                "loss/classification": 0.1,
                **({"criterion/oracle": oracle[i - 1]} if oracle else {}),
            },
        )
        for i in range(1, len(objectives) + 1)
    ]
    return TrialRecord(
        id=name,
        stage=stage,
        condition=condition or method,
        method=method,
        seed=seed,
        outcome=outcome,
        reason=REASON if outcome == "failed" else None,
        params={"method": method} if params is None else params,
        identity=config.identity(),
        config=config.model_dump(mode="json"),
        objective=best[-1] if best else None,
        best_evaluation=objectives.index(best[-1]) + 1 if best else 0,
        num_evaluations=len(objectives),
        evaluations=evaluations,
        test=test or {},
        seconds=20.0,
        cpu_seconds=10.0,
    )
