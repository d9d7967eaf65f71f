"""The course of a study: which trial runs next, what is recorded, and when it is over. No Ray.

A study has two stages, the search (:mod:`study.session.search_stage`) and the final runs of its
winners (:mod:`study.session.final_stage`). Whoever runs trials (Ray Tune, a test) asks the session
for the next one and tells it what happens; the session keeps records and Optuna's storage in step.

In a joint search a trial has a run on every task, is pruned as a whole, and fails as soon as one
of its runs does. In every other search a trial has one run.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from study.config.study_config import StudyConfig
from study.session.ask_tell import Search
from study.session.budget import Budget
from study.session.final_stage import FinalStage
from study.session.runs import Runs
from study.session.score_reporter import ScoreReporter
from study.session.search_stage import SearchStage
from study.spaces.search_space import SearchSpace
from study.storage.persistence import LocalDisk, Persistence
from study.storage.study_folder import StudyFolder
from study.trials.ranking import ranked_report
from study.trials.records import Outcome, RecordFile, Stage, TrialRecord
from study.trials.running_trial import RunningTrial, make_record
from study.trials.shared_records import SharedRecords
from trainables.checkpointing.trial_folder import TrialFolder
from trainables.training.report import Report
from trainables.training.selection import is_average


class Observer(Protocol):
    """Someone who is told what happens: the progress display, TensorBoard."""

    def on_start(self, trial: RunningTrial) -> None:
        """Handle that a run was handed out."""

    def on_report(self, trial: RunningTrial, report: Report) -> None:
        """Handle a new report of a run."""

    def on_end(self, trial: RunningTrial, record: TrialRecord) -> None:
        """Handle that a run has ended; its record is on disk."""


class Session:
    """A study that is running.

    Args:
        study: The study.
        space: Its search space.
        study_folder: Its folder; a study that was interrupted there is resumed.
        observers: Told of everything, including what a resumed study finds done.
        shared: Records of other studies that may be taken over.
        clock: Seconds, for the time limit; only differences count.
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
        self.study_folder = study_folder
        self.observers = observers
        self.persistence = persistence or LocalDisk()
        self.file = RecordFile(study_folder.records)
        self.runs = Runs(study, self.file)
        self.search = Search(study, space, study_folder.journal, study_folder.root.name)
        self.budget = Budget(study, self.search, clock)
        self.scores = ScoreReporter(study, self.search, self.runs)
        self.search_stage = SearchStage(
            study, self.search, self.runs, self.budget, shared, self._take_over
        )
        self.final_stage = FinalStage(study, self.runs, study_folder)
        self._catch_up()

    def _catch_up(self) -> None:
        """Report to Optuna what the records hold; queue the runs of trials that have not ended."""
        for suggestion in self.search.unfinished():
            number = suggestion.number
            left = [
                run
                for run in self.search_stage.runs_of(suggestion)
                if run.id not in self.file.records
            ]
            known = self.runs.of_trial(number)
            failed = next((run.id for run in known if run.outcome == "failed"), None)
            if failed is not None:
                for run in left:
                    # The driver was killed between the records of a failed trial's runs.
                    if self.study_folder.has_trial(run.id):
                        self.file.append(make_record(run, "failed", f"{failed} failed"))
                        self.persistence.keep(self.study_folder.records)
                        self._clean_up(run.id, run.stage)
            if failed is not None or not left:
                self.scores.report(number)
            else:
                self.runs.queue += left

    @property
    def live(self) -> dict[str, RunningTrial]:
        """Runs that were handed out and have not ended, by id."""
        return self.runs.live

    @property
    def records(self) -> list[TrialRecord]:
        """The ended runs, in the order in which they ended."""
        return self.runs.records

    # What runs next

    def next_trial(self) -> RunningTrial | None:
        """Hand out a run; ``None`` if none can start now."""
        run = self.search_stage.next_run()
        if run is None and self._search_has_drained():
            run = self.final_stage.next_run()
        if run is not None:
            # From here on a crash resumes this trial instead of drawing another one.
            self.persistence.keep(self.study_folder.journal)
            self.live[run.id] = run
            for observer in self.observers:
                observer.on_start(run)
        return run

    @property
    def is_over(self) -> bool:
        """Whether every run of both stages has ended."""
        return not self.live and self._search_has_drained() and not self.final_stage.missing()

    def _search_has_drained(self) -> bool:
        """Return whether the search has no run left to hand out."""
        return not self.runs.queue and not self.runs.waiting and self.search_stage.is_over

    def num_planned(self) -> int:
        """Return the number of runs of both stages, as far as is known."""
        drawn = (
            self.file.num_searched
            + len(self.runs.queue)
            + len(self.runs.waiting)
            + len(self.runs.live_search())
        )
        conditions = self.runs.live_conditions() | self.file.conditions
        return (
            drawn
            + len(self.runs.tasks) * self.search_stage.num_to_draw()
            + self.file.num_finals
            + self.final_stage.num_missing(conditions)
        )

    # What happened

    def on_report(self, trial_id: str, report: Report) -> bool:
        """Record a report; return whether the run has ended, by itself or pruned."""
        run = self.live.get(trial_id)
        if run is None:
            if trial_id in self.file.records:  # ended with its siblings, and trained until now
                self._clean_up(trial_id, self.file.records[trial_id].stage)
            return True
        if run.has_reported(report):
            return False
        report = self._ranked(run, report)
        run.latest = report
        if report.phase != "pretraining":
            run.reports.append(report)
        for observer in self.observers:
            observer.on_report(run, report)
        is_pruned = (
            report.phase == "training"
            and run.number is not None
            and self.scores.report_evaluations(run.number)
        )
        siblings = self.runs.siblings(run) if is_pruned else []
        if report.finished:
            self._end({run.id: "complete", **dict.fromkeys(siblings, "pruned")})
        elif is_pruned:
            self._end(dict.fromkeys([run.id, *siblings], "pruned"))
        return is_pruned or report.finished

    def _ranked(self, run: RunningTrial, report: Report) -> Report:
        """Replace the objective by its rank in the search if the criterion averages ranks."""
        if run.stage != "search" or report.phase != "training" or not is_average(run.selection):
            return report
        own = [known.metrics for known in run.evaluations] + [report.metrics]
        among = [*self.runs.evaluated(run.task), report.metrics]
        return ranked_report(report, run.selection, own, among)

    def on_restart(self, trial_id: str) -> None:
        """Count that a run lost its worker and resumes from its checkpoint."""
        if trial_id in self.live:
            self.live[trial_id].restarts += 1

    def on_failure(self, trial_id: str, reason: str) -> None:
        """Record that a run failed for good, and its trial with it."""
        run = self.live.get(trial_id)
        if run is not None:
            siblings = self.runs.siblings(run)
            self.runs.drop_trial(run.number)
            self._end(dict.fromkeys([trial_id, *siblings], "failed"), " ".join(reason.split()))

    def _end(self, outcomes: Mapping[str, Outcome], reason: str | None = None) -> None:
        """End runs of one trial; if they failed, the first one is the cause."""
        runs = [self.live.pop(name) for name in outcomes]
        for run in runs:
            self.file.append(make_record(run, outcomes[run.id], reason))
            if reason is not None:
                reason = f"{runs[0].id} failed"
        self.persistence.keep(self.study_folder.records)
        self.budget.save_time()
        if runs[0].number is not None:
            self.scores.report_end(runs[0].number)
        for run in runs:
            record = self.file.records[run.id]
            self.runs.release_waiting(record.identity)
            self._clean_up(run.id, run.stage)
            for observer in self.observers:
                observer.on_end(run, record)

    def _take_over(self, run: RunningTrial, equal: TrialRecord) -> None:
        """End a run with the figures of an equal one."""
        assert run.number is not None
        record = equal.model_copy(
            update={
                "id": run.id,
                "condition": run.condition,
                "params": run.params,
                "paths": run.paths,
                "seconds": 0.0,
                "cpu_seconds": 0.0,
                "restarts": 0,
                "same_as": equal.id,
            }
        )
        for observer in self.observers:
            observer.on_start(run)
        self.file.append(record)
        self.persistence.keep(self.study_folder.records)
        self.scores.report(run.number)
        for observer in self.observers:
            observer.on_end(run, record)

    def _clean_up(self, trial_id: str, stage: Stage) -> None:
        for path in self.spent_files(trial_id, stage):
            self.persistence.discard(path)

    def spent_files(self, trial_id: str, stage: Stage) -> list[Path]:
        """Return the files of an ended run that nothing needs any more.

        Only final runs keep weights: those of the winners.
        """
        folder = TrialFolder(self.study_folder.trial(trial_id))
        return [folder.latest, folder.best] if stage == "search" else [folder.latest]
