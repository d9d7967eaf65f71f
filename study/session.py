"""The course of a study: which trial comes next, what is written down, when it is over. No Ray.

A study has two stages. The search draws trials until its number is reached. Then the winner of
each condition, chosen by the criterion, runs again on fresh seeds with the test sets opened: a
search's best score is optimistic. The final runs of a condition start as soon as its own part of
the search is over.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from study.budget import Budget, UnderWay
from study.conditions import file_name
from study.config import StudyConfig
from study.pareto import cost_of
from study.ranks import objectives_of, ranked_report
from study.records import EvaluationRecord, RecordFile, Stage, TrialRecord
from study.search import Outcome, Search, Suggestion
from study.shared_records import SharedRecords
from study.space import SearchSpace
from trainables.checkpoint import TrialFolder
from trainables.config import TrialConfig
from trainables.selection import is_average
from trainables.trial import Report


@dataclass(frozen=True)
class Layout:
    """The files of a study's folder."""

    root: Path

    @property
    def space(self) -> Path:
        """The study's configuration, resolved."""
        return self.root / "study.yaml"

    @property
    def environment(self) -> Path:
        """Versions, git revision, machine and command."""
        return self.root / "environment.json"

    @property
    def journal(self) -> Path:
        """Optuna's storage."""
        return self.root / "optuna.journal"

    @property
    def records(self) -> Path:
        """One line for each trial that ended."""
        return self.root / "records.jsonl"

    @property
    def tensorboard(self) -> Path:
        """One folder of events for each trial."""
        return self.root / "tensorboard"

    @property
    def log(self) -> Path:
        """Everything that Ray, Optuna and the trials say."""
        return self.root / "study.log"

    @property
    def result(self) -> Path:
        """The final table."""
        return self.root / "result.json"

    def trial(self, trial_id: str) -> Path:
        """A trial's own folder."""
        return self.root / "trials" / trial_id


@dataclass
class LiveTrial:
    """A trial that has been handed out and has not ended."""

    id: str
    stage: Stage
    condition: str
    config: TrialConfig
    params: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    number: int | None = None
    """Optuna's; absent from final runs."""
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


class Observer(Protocol):
    """Someone who is told what happens: the display, TensorBoard."""

    def on_start(self, trial: LiveTrial) -> None:
        """A trial was handed out."""

    def on_report(self, trial: LiveTrial, report: Report) -> None:
        """A trial reported something new."""

    def on_end(self, trial: LiveTrial, record: TrialRecord) -> None:
        """A trial ended and its record is on disk."""


class Session:
    """A study under way.

    Args:
        study: The study.
        space: Its search space.
        layout: Its folder; a study that was interrupted there goes on.
        observers: Told of everything, also of what a resumed study finds done.
        shared: Records of other studies that may be taken over.
        clock: For its time limit.
    """

    def __init__(self, study: StudyConfig, space: SearchSpace, layout: Layout,
                 observers: Sequence[Observer] = (), shared: SharedRecords | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.study = study
        self.layout = layout
        self.observers = observers
        self.file = RecordFile(layout.records)
        self.search = Search(study, space, layout.journal, layout.root.name)
        self.budget = Budget(study, self.search, clock)
        self.shared = shared
        self.live: dict[str, LiveTrial] = {}
        self.to_resume: list[Suggestion] = []
        self.waiting: list[Suggestion] = []
        """Drawn, and the same as a trial under way."""
        self.best: tuple[int, dict[str, TrialRecord]] = 0, {}
        """Winners, and of how many records."""
        self._catch_up()

    def _catch_up(self) -> None:
        """Tells Optuna what the records know; what neither knows to be over goes on."""
        for suggestion in self.search.unfinished():
            record = self.file.records.get(search_id(suggestion.number))
            if record is None:
                self.to_resume.append(suggestion)
            else:
                self._tell(suggestion.number, record)

    def _tell(self, number: int, record: TrialRecord) -> None:
        """Tells Optuna the whole of a trial."""
        for evaluation in record.evaluations:
            self.search.report(number, evaluation.evaluation, evaluation.objective)
        self._finish(number, record)

    def _finish(self, number: int, record: TrialRecord) -> None:
        """Tells Optuna how a trial ended, at the cost of the one whose figures it has."""
        ran = self.file.records.get(record.same_as or record.id, record)
        self.search.finish(number, record.outcome, record.objective, record.reason,
                           cost_of(ran, self.study.cost) if self.study.cost else None)

    @property
    def records(self) -> list[TrialRecord]:
        """Of all trials that have ended, in the order in which they did."""
        return list(self.file.records.values())

    # What comes next

    def next_trial(self) -> LiveTrial | None:
        """Hands out a trial; ``None`` if there is none now."""
        trial = self._resumed() or self._searched() or self._final()
        if trial is not None:
            self.live[trial.id] = trial
            for observer in self.observers:
                observer.on_start(trial)
        return trial

    @property
    def is_over(self) -> bool:
        """Whether everything that there is to do has ended."""
        return (not self.live and not self.to_resume and not self.waiting
                and self._search_is_over()
                and not self._missing_finals())

    def _search_is_over(self) -> bool:
        """Whether no further trial will be drawn."""
        return self.budget.is_used_up(*self._of_budget())

    def _of_budget(self) -> tuple[float, list[UnderWay]]:
        """Epochs of the search's trials that have ended, and the trials under way."""
        return (self.file.epochs,
                [(trial.config, trial.reports[-1] if trial.reports else None)
                 for trial in self.live.values() if trial.stage == "search"])

    def num_planned(self) -> int:
        """Trials of both stages, as far as can be said now."""
        conditions = self._searching() | self.file.conditions
        drawn = self.search.num_asked()
        return (drawn if self._search_is_over() else max(self.study.num_trials, drawn)) \
            + self.study.final_seeds * len(conditions)

    def _resumed(self) -> LiveTrial | None:
        while self.to_resume:
            trial = self._to_run(self.to_resume.pop(0))
            if trial is not None:
                return trial
        return None

    def _searched(self) -> LiveTrial | None:
        while self.budget.allows(*self._of_budget()):
            self.budget.note_time()
            trial = self._to_run(self.search.ask())
            if trial is not None:
                return trial
        return None

    def _to_run(self, suggestion: Suggestion) -> LiveTrial | None:
        """The trial, unless one of the same configuration has run, here or elsewhere, or runs."""
        identity = suggestion.config.identity()
        known = self._known(identity)
        if known is not None:
            self._take_over(suggestion, known)
            return None
        if any(trial.identity == identity for trial in self.live.values()):
            self.waiting.append(suggestion)
            return None
        return self._of_search(suggestion)

    def _known(self, identity: str) -> TrialRecord | None:
        if identity in self.file.by_identity:
            return self.file.by_identity[identity]
        if self.study.cost is not None:  # another study's was measured elsewhere
            return None
        return self.shared.find(identity) if self.shared is not None else None

    def _take_over(self, suggestion: Suggestion, known: TrialRecord) -> None:
        """Ends a trial with the figures of another one."""
        trial = self._of_search(suggestion)
        record = known.model_copy(update={
            "id": trial.id, "condition": trial.condition, "params": trial.params, "seconds": 0.0,
            "cpu_seconds": 0.0, "restarts": 0, "same_as": known.id})
        for observer in self.observers:
            observer.on_start(trial)
        self.file.append(record)
        self._tell(suggestion.number, record)
        for observer in self.observers:
            observer.on_end(trial, record)

    def _of_search(self, suggestion: Suggestion) -> LiveTrial:
        return LiveTrial(search_id(suggestion.number), "search",
                         self.search.conditions.name(suggestion.params), suggestion.config,
                         suggestion.params, suggestion.number)

    def _final(self) -> LiveTrial | None:
        if self.to_resume or self.waiting or not self._search_is_over():
            return None
        missing = self._missing_finals()
        return missing[0] if missing else None

    def _missing_finals(self) -> list[LiveTrial]:
        """Final runs that can start and have not, condition by condition."""
        searching = self._searching()
        finals = []
        for winner in self._winners().values():
            if winner.condition in searching:
                continue
            for seed in range(self.study.seed + 1, self.study.seed + 1 + self.study.final_seeds):
                trial = final_run(winner, seed)
                if trial.id not in self.file.records and trial.id not in self.live:
                    finals.append(trial)
        return finals

    def _winners(self) -> dict[str, TrialRecord]:
        """Of the records so far, looked for again only when there are more."""
        if self.best[0] != len(self.file.records):
            self.best = len(self.file.records), winners(self.records)
        return self.best[1]

    def _searching(self) -> set[str]:
        """Conditions of the search's trials that are under way."""
        return {trial.condition for trial in self.live.values() if trial.stage == "search"}

    # What happened

    def on_report(self, trial_id: str, report: Report) -> bool:
        """Takes a report; says whether the trial has ended (by itself or by the pruner)."""
        trial = self.live.get(trial_id)
        if trial is None:
            return True
        known = trial.reports[-1] if trial.reports else None
        repeated = report.phase != "pretraining" and known is not None and (
            report.evaluation < known.evaluation
            or report.evaluation == known.evaluation and report.phase == known.phase)
        if repeated:  # a restarted trial repeats what it has done
            return False
        report = self._ranked(trial, report)
        trial.latest = report
        if report.phase != "pretraining":
            trial.reports.append(report)
        for observer in self.observers:
            observer.on_report(trial, report)
        stop = report.phase == "training" and trial.number is not None and self.search.report(
            trial.number, report.evaluation, report.objective)
        if report.finished:
            self._end(trial, "complete")
        elif stop:
            self._end(trial, "stopped")
        return stop or report.finished

    def _ranked(self, trial: LiveTrial, report: Report) -> Report:
        """The report, its objective a rank in the whole search where the criterion is one."""
        selection = trial.config.selection
        if trial.stage != "search" or report.phase != "training" or not is_average(selection):
            return report
        own = [known.metrics for known in trial.reports] + [report.metrics]
        others = [e.metrics for record in self.records if record.stage == "search"
                  for e in record.evaluations]
        others += [known.metrics for other in self.live.values() if other is not trial
                   and other.stage == "search" for known in other.reports]
        return ranked_report(report, selection, own, others)

    def on_restart(self, trial_id: str) -> None:
        """A trial's worker was lost and it goes on from its checkpoint."""
        if trial_id in self.live:
            self.live[trial_id].restarts += 1

    def on_failure(self, trial_id: str, reason: str) -> None:
        """A trial failed for good."""
        trial = self.live.get(trial_id)
        if trial is not None:
            self._end(trial, "failed", " ".join(reason.split()))

    def _end(self, trial: LiveTrial, outcome: Outcome, reason: str | None = None) -> None:
        record = make_record(trial, outcome, reason)
        self.file.append(record)
        self.budget.note_time()
        if trial.number is not None:
            self._finish(trial.number, record)
        del self.live[trial.id]
        self._end_waiting(record)
        folder = TrialFolder(self.layout.trial(trial.id))
        folder.discard_latest()
        if trial.stage == "search":
            folder.best.unlink(missing_ok=True)  # the winners' are those of the final runs
        for observer in self.observers:
            observer.on_end(trial, record)

    def _end_waiting(self, record: TrialRecord) -> None:
        """Looks after the trials that waited for one of the same configuration."""
        same = [s for s in self.waiting if s.config.identity() == record.identity]
        self.waiting = [s for s in self.waiting if s not in same]
        self.to_resume += same


def search_id(number: int) -> str:
    """The id of a trial of the search."""
    return f"{number:04d}"


def winners(records: Sequence[TrialRecord]) -> dict[str, TrialRecord]:
    """The best trial of the search of each condition, by the criterion.

    Trials that ran to their end go before those that were stopped; at equal values the earlier
    one wins. A condition all of whose trials failed has no winner.
    """
    objectives = objectives_of(records)
    best: dict[str, TrialRecord] = {}
    for record in sorted(records, key=lambda r: r.id):
        if record.id in objectives and record.outcome != "failed":
            current = best.get(record.condition)
            if current is None or rank(record, objectives) > rank(current, objectives):
                best[record.condition] = record
    return best


def rank(record: TrialRecord, objectives: Mapping[str, float]) -> tuple[bool, float]:
    """By what trials that came to a value are ordered: complete ones before stopped ones.

    Args:
        record: One of those that have a value.
        objectives: As of :func:`study.ranks.objectives_of`.
    """
    return record.outcome == "complete", objectives[record.id]


def final_run(winner: TrialRecord, seed: int) -> LiveTrial:
    """The winner's configuration on another seed, with the test sets opened at the end."""
    config = TrialConfig.model_validate({
        **winner.config, "seed": seed,
        "evaluation": {**winner.config["evaluation"], "test": True},
    })
    return LiveTrial(f"final-{file_name(winner.condition)}-seed{seed}", "final",
                     winner.condition, config, winner.params)


def make_record(trial: LiveTrial, outcome: Outcome, reason: str | None) -> TrialRecord:
    """The record of a trial that ended."""
    training = [report for report in trial.reports if report.phase == "training"]
    test = [report.metrics for report in trial.reports if report.phase == "test"]
    last = trial.reports[-1] if trial.reports else None
    return TrialRecord(
        id=trial.id, stage=trial.stage, condition=trial.condition, method=trial.method,
        seed=trial.config.seed, outcome=outcome, reason=reason, params=trial.params,
        identity=trial.identity,
        config=trial.config.model_dump(mode="json"),
        objective=last.objective if last else None,
        best_evaluation=last.best_evaluation if last else 0,
        num_evaluations=last.num_evaluations if last else 0,
        evaluations=[
            EvaluationRecord(evaluation=r.evaluation, epoch=r.epoch, objective=r.objective,
                             metrics=r.metrics) for r in training],
        test=test[-1] if test else {},
        seconds=last.seconds if last else 0.0, cpu_seconds=last.cpu_seconds if last else 0.0,
        restarts=trial.restarts)
