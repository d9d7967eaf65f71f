"""The course of a study: which trial comes next, what is written down, when it is over. No Ray.

A study has two stages. The search draws trials until its number is reached. Then the winner of
each condition, chosen by the criterion, runs again on fresh seeds with the test sets opened: a
search's best score is optimistic. The final runs of a condition start as soon as its own part of
the search is over; where ranks choose, when all of it is. A study that goes on with more trials
and finds another winner runs that one anew.

In a joint search a trial has a run on every task. It is worth something after evaluations that all
its runs have reached, is stopped as a whole, and fails as soon as one of them does. In every other
search a trial has one run.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from study.config.study_config import StudyConfig
from study.session.ask_tell import Search, Suggestion
from study.session.budget import Budget, UnderWay
from study.spaces.search_space import SearchSpace
from study.storage.persistence import LocalDisk, Persistence
from study.storage.study_folder import StudyFolder
from study.trials.final_runs import ended_finals, present_winners
from study.trials.ranking import ranked_report, trial_score
from study.trials.records import Outcome, RecordFile, Stage, TrialRecord, cost_of
from study.trials.running_trial import RunningTrial, final_run, make_record, search_id
from study.trials.shared_records import SharedRecords
from trainables.checkpointing.trial_folder import TrialFolder
from trainables.training.report import Report
from trainables.training.selection import Metrics, is_average


class Observer(Protocol):
    """Someone who is told what happens: the display, TensorBoard."""

    def on_start(self, trial: RunningTrial) -> None:
        """A trial was handed out."""

    def on_report(self, trial: RunningTrial, report: Report) -> None:
        """A trial reported something new."""

    def on_end(self, trial: RunningTrial, record: TrialRecord) -> None:
        """A trial ended and its record is on disk."""


_FinalRun = tuple[str, str, int]
"""Task, condition and seed of a final run of the condition's present winner."""


def _final_of(run: RunningTrial | TrialRecord) -> _FinalRun:
    return run.task, run.condition, run.seed


class Session:
    """A study under way.

    Args:
        study: The study.
        space: Its search space.
        study_folder: Its folder; a study that was interrupted there goes on.
        observers: Told of everything, also of what a resumed study finds done.
        shared: Records of other studies that may be taken over.
        clock: For its time limit.
        persistence: Keeps what is written: a trial begins when its draw is kept, and has ended
            when its record is.
    """

    def __init__(
        self,
        study: StudyConfig,
        space: SearchSpace,
        study_folder: StudyFolder,
        observers: Sequence[Observer] = (),
        shared: SharedRecords | None = None,
        clock: Callable[[], float] = time.monotonic,
        persistence: Persistence | None = None,
    ) -> None:
        self.study = study
        self.num_tasks = len(study.task_names)
        self.study_folder = study_folder
        self.observers = observers
        self.persistence = persistence or LocalDisk()
        self.file = RecordFile(study_folder.records)
        self.search = Search(study, space, study_folder.journal, study_folder.root.name)
        self.budget = Budget(study, self.search, clock)
        self.shared = shared
        self.live: dict[str, RunningTrial] = {}
        self.queue: list[RunningTrial] = []
        """Drawn, or to go on, and not handed out yet."""
        self.waiting: list[RunningTrial] = []
        """Drawn, and the same as one under way."""
        self.told: dict[int, int] = {}
        """The last evaluation of trials under way that Optuna was told by this process."""
        self.best: tuple[int, list[TrialRecord], set[_FinalRun]] = 0, [], set()
        """Winners and their final runs that have ended, and of how many records."""
        self._catch_up()

    def _catch_up(self) -> None:
        """Tells Optuna what the records know; what neither knows to be over goes on."""
        for suggestion in self.search.unfinished():
            left = [run for run in self._runs(suggestion) if run.id not in self.file.records]
            known = self._runs_so_far(suggestion.number)
            failed = next((run.id for run in known if run.outcome == "failed"), None)
            if failed is not None:
                for run in left:
                    if self.study_folder.has_trial(run.id):  # killed before it was written down
                        self.file.append(make_record(run, "failed", f"{failed} failed"))
                        self.persistence.keep(self.study_folder.records)
                        self._tidy(run.id, run.stage)
            if failed is not None or not left:
                self._tell(suggestion.number)
            else:
                self.queue += left

    # What Optuna is told

    def _tell(self, number: int) -> None:
        """Tells all that there is to tell of a trial."""
        self._tell_evaluations(number)
        self._tell_end(number)

    def _tell_evaluations(self, number: int) -> bool:
        """Tells what all runs of a trial have reached; says whether it should stop."""
        runs = self._runs_so_far(number)
        if len(runs) < self.num_tasks:
            return False
        reached = set.intersection(*({e.evaluation for e in run.evaluations} for run in runs))
        for evaluation in sorted(reached):
            if evaluation > self.told.get(number, 0):
                self.told[number] = evaluation
                if self.search.report(number, evaluation, self._value(runs, evaluation)):
                    return True
        # one that was stopped with others, of which a kill left no record
        return any(
            run.outcome == "stopped" and run.evaluations[-1].evaluation in reached for run in runs
        )

    def _tell_end(self, number: int) -> None:
        """Tells how a trial ended, if it has: on all tasks, or it failed on one."""
        runs = self._runs_so_far(number)
        failed = [run for run in runs if run.outcome == "failed"]
        if failed:
            self.search.finish(number, "failed", None, failed[0].reason)
        elif [run.outcome for run in runs].count(None) == 0 and len(runs) == self.num_tasks:
            is_complete = all(run.outcome == "complete" for run in runs)
            self.search.finish(
                number,
                "complete" if is_complete else "stopped",
                self._value(runs),
                None,
                self._cost(runs[0].id),
            )
        self.told.pop(number, None)

    def _value(
        self, runs: Sequence[RunningTrial | TrialRecord], evaluation: int | None = None
    ) -> float:
        return trial_score(runs, self.study.joint, self._evaluated, evaluation)

    def _cost(self, trial_id: str) -> float | None:
        """Of the trial whose figures these are."""
        if self.study.cost is None:
            return None
        record = self.file.records[trial_id]
        return cost_of(self.file.records.get(record.same_as or record.id, record), self.study.cost)

    def _evaluated(self, task: str) -> list[Metrics]:
        """Metrics of all evaluations of the search on a task."""
        runs: list[RunningTrial | TrialRecord] = [*self.records, *self.live.values()]
        return [
            e.metrics
            for run in runs
            if run.stage == "search" and run.task == task
            for e in run.evaluations
        ]

    def _runs(self, suggestion: Suggestion) -> list[RunningTrial]:
        """Those of a trial that was drawn."""
        number, params = suggestion.number, suggestion.params
        condition = self.search.conditions.name(params)
        return [
            RunningTrial(name, "search", condition, run.config, params, number, run.written)
            for name, run in zip(
                self._ids(number), self.study.on_each_task(suggestion.config), strict=True
            )
        ]

    def _runs_so_far(self, number: int) -> list[RunningTrial | TrialRecord]:
        """Those of a trial that have been handed out, ended ones too."""
        found = (self.live.get(name) or self.file.records.get(name) for name in self._ids(number))
        return [run for run in found if run is not None]

    def _ids(self, number: int) -> list[str]:
        return [
            search_id(number, task if self.study.joint else None) for task in self.study.task_names
        ]

    @property
    def records(self) -> list[TrialRecord]:
        """Of all trials that have ended, in the order in which they did."""
        return list(self.file.records.values())

    # What comes next

    def next_trial(self) -> RunningTrial | None:
        """Hands out a trial; ``None`` if there is none now."""
        trial = self._queued() or self._searched() or self._final()
        if trial is not None:
            self.persistence.keep(self.study_folder.journal)
            self.live[trial.id] = trial
            for observer in self.observers:
                observer.on_start(trial)
        return trial

    @property
    def is_over(self) -> bool:
        """Whether everything that there is to do has ended."""
        return (
            not self.live
            and not self.queue
            and not self.waiting
            and self._search_is_over()
            and not self._missing_finals()
        )

    def _search_is_over(self) -> bool:
        """Whether no further trial will be drawn."""
        return self.budget.is_used_up(*self._of_budget())

    def _of_budget(self) -> tuple[float, list[UnderWay]]:
        """Epochs of the search's trials that have ended, and the trials under way."""
        return (
            self.file.epochs,
            [
                (trial.config, trial.reports[-1] if trial.reports else None)
                for trial in self.live.values()
                if trial.stage == "search"
            ],
        )

    def num_planned(self) -> int:
        """Runs of both stages, as far as can be said now."""
        to_draw = (
            0
            if self._search_is_over()
            else max(self.study.num_trials - self.search.num_asked(), 0)
        )
        drawn = (
            self.file.num_searched
            + len(self.queue)
            + len(self.waiting)
            + sum(trial.stage == "search" for trial in self.live.values())
        )
        conditions = self._searching() | self.file.conditions
        done = self._done() if self.file.num_finals else set()
        to_run = {
            (task, condition, seed)
            for task in self.study.task_names
            for condition in conditions
            for seed in self._final_seeds()
        } - done
        return drawn + self.num_tasks * to_draw + self.file.num_finals + len(to_run)

    def _queued(self) -> RunningTrial | None:
        while self.queue:
            trial = self._to_run(self.queue.pop(0))
            if trial is not None:
                return trial
        return None

    def _searched(self) -> RunningTrial | None:
        while self.budget.allows(*self._of_budget()):
            self.budget.note_time()
            self.queue += self._runs(self.search.ask())
            trial = self._queued()
            if trial is not None:
                return trial
        return None

    def _to_run(self, trial: RunningTrial) -> RunningTrial | None:
        """The trial, unless one of the same configuration has run, here or elsewhere, or runs."""
        identity = trial.identity
        known = self._known(identity)
        if known is not None:
            self._take_over(trial, known)
            return None
        if any(other.identity == identity for other in self.live.values()):
            self.waiting.append(trial)
            return None
        return trial

    def _known(self, identity: str) -> TrialRecord | None:
        if identity in self.file.by_identity:
            return self.file.by_identity[identity]
        if self.study.cost is not None:  # another study's was measured elsewhere
            return None
        return self.shared.find(identity) if self.shared is not None else None

    def _take_over(self, trial: RunningTrial, known: TrialRecord) -> None:
        """Ends a trial with the figures of another one."""
        assert trial.number is not None
        record = known.model_copy(
            update={
                "id": trial.id,
                "condition": trial.condition,
                "params": trial.params,
                "paths": trial.paths,
                "seconds": 0.0,
                "cpu_seconds": 0.0,
                "restarts": 0,
                "same_as": known.id,
            }
        )
        for observer in self.observers:
            observer.on_start(trial)
        self.file.append(record)
        self.persistence.keep(self.study_folder.records)
        self._tell(trial.number)
        for observer in self.observers:
            observer.on_end(trial, record)

    def _final(self) -> RunningTrial | None:
        if self.queue or self.waiting or not self._search_is_over():
            return None
        missing = self._missing_finals()
        return self._own_named(self._final_run(*missing[0])) if missing else None

    def _final_run(self, winner: TrialRecord, seed: int) -> RunningTrial:
        return final_run(winner, seed, winner.task if self.study.joint else None)

    def _own_named(self, run: RunningTrial) -> RunningTrial:
        """A final run by an id that none of an earlier winner has, in records or as a folder.

        The configuration's digest makes it so, and a resumed study finds its run by it again.
        """
        begun = self.study_folder.files(run.id).read_config()
        if run.id in self.file.records or begun not in (None, run.config.to_yaml()):
            return replace(run, id=f"{run.id}-{run.identity[:8]}")
        return run

    def _missing_finals(self) -> list[tuple[TrialRecord, int]]:
        """Winners and seeds of final runs that can start and have not, condition by condition."""
        searching = self._searching()
        if searching and self.study.ranks_trials:
            return []  # ranks still change
        begun = self._done() | {
            _final_of(run) for run in self.live.values() if run.stage == "final"
        }
        conditions = dict.fromkeys(winner.condition for winner in self._winners())
        return [
            (winner, seed)
            for condition in conditions
            if condition not in searching
            for seed in self._final_seeds()
            for winner in self._winners()
            if winner.condition == condition and (winner.task, condition, seed) not in begun
        ]

    def _final_seeds(self) -> range:
        return range(self.study.seed + 1, self.study.seed + 1 + self.study.final_seeds)

    def _done(self) -> set[_FinalRun]:
        """Final runs of the present winners that have ended."""
        self._winners()
        return self.best[2]

    def _winners(self) -> list[TrialRecord]:
        """The winning trial of each condition: its records on all tasks.

        They are looked for again only when there are more records.
        """
        if self.best[0] != len(self.file.records):
            best = present_winners(self.records, self.study)
            done = {_final_of(run) for run in ended_finals(best, self.records)}
            self.best = len(self.file.records), best, done
        return self.best[1]

    def _searching(self) -> set[str]:
        """Conditions of the search's trials that are under way."""
        return {trial.condition for trial in self.live.values() if trial.stage == "search"}

    # What happened

    def on_report(self, trial_id: str, report: Report) -> bool:
        """Takes a report; says whether the trial has ended (by itself or by the pruner)."""
        trial = self.live.get(trial_id)
        if trial is None:
            if trial_id in self.file.records:  # ended with others, and has gone on until now
                self._tidy(trial_id, self.file.records[trial_id].stage)
            return True
        known = trial.reports[-1] if trial.reports else None
        repeated = (
            report.phase != "pretraining"
            and known is not None
            and (
                report.evaluation < known.evaluation
                or (report.evaluation == known.evaluation and report.phase == known.phase)
            )
        )
        if repeated:  # a restarted trial repeats what it has done
            return False
        report = self._ranked(trial, report)
        trial.latest = report
        if report.phase != "pretraining":
            trial.reports.append(report)
        for observer in self.observers:
            observer.on_report(trial, report)
        stop = (
            report.phase == "training"
            and trial.number is not None
            and self._tell_evaluations(trial.number)
        )
        others = self._others(trial) if stop else []
        if report.finished:
            self._end({trial.id: "complete", **dict.fromkeys(others, "stopped")})
        elif stop:
            self._end(dict.fromkeys([trial.id, *others], "stopped"))
        return stop or report.finished

    def _others(self, trial: RunningTrial) -> list[str]:
        """Other runs of the same trial that are under way."""
        return [
            other.id
            for other in self.live.values()
            if other is not trial and trial.number is not None and other.number == trial.number
        ]

    def _ranked(self, trial: RunningTrial, report: Report) -> Report:
        """The report, its objective a rank in the whole search where the criterion is one."""
        selection = trial.config.selection
        if trial.stage != "search" or report.phase != "training" or not is_average(selection):
            return report
        own = [known.metrics for known in trial.evaluations] + [report.metrics]
        return ranked_report(
            report, selection, own, [*self._evaluated(trial.task), report.metrics]
        )

    def on_restart(self, trial_id: str) -> None:
        """A trial's worker was lost and it goes on from its checkpoint."""
        if trial_id in self.live:
            self.live[trial_id].restarts += 1

    def on_failure(self, trial_id: str, reason: str) -> None:
        """A trial failed for good."""
        trial = self.live.get(trial_id)
        if trial is not None:
            others = self._others(trial)
            self.queue = [other for other in self.queue if other.number != trial.number]
            self.waiting = [other for other in self.waiting if other.number != trial.number]
            self._end(dict.fromkeys([trial_id, *others], "failed"), " ".join(reason.split()))

    def _end(self, outcomes: Mapping[str, Outcome], reason: str | None = None) -> None:
        """Ends runs of one trial; the first, which is the cause, for a reason if it failed."""
        trials = [self.live.pop(name) for name in outcomes]
        for trial in trials:
            self.file.append(make_record(trial, outcomes[trial.id], reason))
            if reason is not None:
                reason = f"{trials[0].id} failed"
        self.persistence.keep(self.study_folder.records)
        self.budget.note_time()
        if trials[0].number is not None:
            self._tell_end(trials[0].number)
        for trial in trials:
            record = self.file.records[trial.id]
            self._end_waiting(record)
            self._tidy(trial.id, trial.stage)
            for observer in self.observers:
                observer.on_end(trial, record)

    def _tidy(self, trial_id: str, stage: Stage) -> None:
        """Removes what a run that has ended needs no more."""
        for path in self.spent(trial_id, stage):
            self.persistence.discard(path)

    def spent(self, trial_id: str, stage: Stage) -> list[Path]:
        """A run's files that nobody needs when it has ended."""
        folder = TrialFolder(self.study_folder.trial(trial_id))
        if stage == "search":  # the winners' weights are those of the final runs
            return [folder.latest, folder.best]
        return [folder.latest]

    def _end_waiting(self, record: TrialRecord) -> None:
        """Looks after the trials that waited for one of the same configuration."""
        same = [trial for trial in self.waiting if trial.identity == record.identity]
        self.waiting = [trial for trial in self.waiting if trial not in same]
        self.queue += same
