"""What Optuna is told about a trial: its score after each evaluation, and how it ended.

In a joint search a trial has a run on every task. It has a score at the evaluations that all its
runs have reached, and it ends when all of them have, or as soon as one fails.
"""

from collections.abc import Sequence

from study.config.study_config import StudyConfig
from study.session.ask_tell import Search
from study.session.runs import Runs
from study.trials.ranking import trial_score
from study.trials.records import TrialRecord
from study.trials.running_trial import RunningTrial


class ScoreReporter:
    """Reports trials to the search.

    Args:
        study: The study.
        search: Optuna's side of it.
        runs: The study's runs.
    """

    def __init__(self, study: StudyConfig, search: Search, runs: Runs) -> None:
        self.study = study
        self.search = search
        self.runs = runs
        self.reported: dict[int, int] = {}
        """The last evaluation of each live trial that this process has reported."""

    def report(self, number: int) -> None:
        """Report everything known about a trial."""
        self.report_evaluations(number)
        self.report_end(number)

    def report_evaluations(self, number: int) -> bool:
        """Report the evaluations that all of its runs have reached; return whether to prune it."""
        runs = self.runs.of_trial(number)
        if len(runs) < len(self.runs.tasks):
            return False
        reached = set.intersection(*({e.evaluation for e in run.evaluations} for run in runs))
        for evaluation in sorted(reached):
            if evaluation > self.reported.get(number, 0):
                self.reported[number] = evaluation
                if self.search.report(number, evaluation, self._score(runs, evaluation)):
                    return True
        # The driver may have been killed after it recorded one run as pruned and before it did
        # the same for the others: they must not train on.
        return any(
            run.outcome == "pruned" and run.evaluations[-1].evaluation in reached for run in runs
        )

    def report_end(self, number: int) -> None:
        """Report how a trial ended, if it has: on all tasks, or by a failure on one."""
        runs = self.runs.of_trial(number)
        failed = [run for run in runs if run.outcome == "failed"]
        if failed:
            self.search.finish(number, "failed", None, failed[0].reason)
        elif len(runs) == len(self.runs.tasks) and all(run.outcome is not None for run in runs):
            is_complete = all(run.outcome == "complete" for run in runs)
            self.search.finish(
                number,
                "complete" if is_complete else "pruned",
                self._score(runs),
                None,
                self._cost(runs[0].id),
            )
        self.reported.pop(number, None)

    def _score(
        self, runs: Sequence[RunningTrial | TrialRecord], evaluation: int | None = None
    ) -> float:
        return trial_score(runs, self.study.joint, self.runs.evaluated, evaluation)

    def _cost(self, run_id: str) -> float | None:
        """Return the cost of the run whose figures a record holds: its own or another's."""
        if self.study.cost is None:
            return None
        records = self.runs.file.records
        record = records[run_id]
        return records.get(record.same_as or record.id, record).cost(self.study.cost)
