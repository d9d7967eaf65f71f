"""The second stage of a study: each condition's winner runs again on fresh seeds.

A search's best score is optimistic, so the reported figures come from these runs, which open the
test sets. A condition's final runs start once its own part of the search is over; where trials
are scored by ranks, which change with every trial, once the whole search is.
"""

from dataclasses import replace

from study.config.study_config import StudyConfig
from study.session.runs import Runs
from study.storage.study_folder import StudyFolder
from study.trials.final_runs import ended_finals, present_winners
from study.trials.records import TrialRecord
from study.trials.running_trial import RunningTrial, final_run
from trainables.configuration.schema import validate
from trainables.configuration.yaml_file import parse_yaml
from trainables.trial_config import TrialConfig

FinalRun = tuple[str, str, int]
"""Task, condition and seed of a final run of the condition's present winner."""


def _key(run: RunningTrial | TrialRecord) -> FinalRun:
    return run.task, run.condition, run.seed


def _is(config: TrialConfig, text: str) -> bool:
    """Return whether a YAML text, perhaps of an earlier version, holds this configuration."""
    try:
        return validate(TrialConfig, parse_yaml(text)) == config
    except ValueError:
        return False


class FinalStage:
    """The winners and the final runs that they lack.

    Args:
        study: The study.
        runs: Its runs.
        study_folder: Where runs of an earlier process may have begun.
    """

    def __init__(self, study: StudyConfig, runs: Runs, study_folder: StudyFolder) -> None:
        self.study = study
        self.runs = runs
        self.study_folder = study_folder
        self._found: tuple[int, list[TrialRecord], set[FinalRun]] = 0, [], set()
        """The number of records that winners and ended final runs were last derived from."""

    def next_run(self) -> RunningTrial | None:
        """Return a final run that can start now; ``None`` if there is none."""
        missing = self.missing()
        if not missing:
            return None
        winner, seed = missing[0]
        return self._with_free_id(
            final_run(winner, seed, winner.task if self.study.joint else None)
        )

    def missing(self) -> list[tuple[TrialRecord, int]]:
        """Return winners and seeds of final runs that can start now, condition by condition."""
        searching = self.runs.live_conditions()
        if searching and self.study.ranks_trials:
            return []
        begun = self._ended() | {
            _key(run) for run in self.runs.live.values() if run.stage == "final"
        }
        winners = self._winners()
        return [
            (winner, seed)
            for condition in dict.fromkeys(winner.condition for winner in winners)
            if condition not in searching
            for seed in self.seeds
            for winner in winners
            if winner.condition == condition and (winner.task, condition, seed) not in begun
        ]

    def num_missing(self, conditions: set[str]) -> int:
        """Return how many final runs these conditions will still need, whoever wins them."""
        needed = {
            (task, condition, seed)
            for task in self.study.task_names
            for condition in conditions
            for seed in self.seeds
        }
        return len(needed - self._ended() if self.runs.file.num_finals else needed)

    @property
    def seeds(self) -> range:
        """The seeds of final runs."""
        return range(self.study.seed + 1, self.study.seed + 1 + self.study.final_seeds)

    def _with_free_id(self, run: RunningTrial) -> RunningTrial:
        """Return the run under an id that no run of an earlier winner has, recorded or begun.

        The suffix is the configuration's digest, so a resumed study finds the same run again.
        """
        begun = self.study_folder.files(run.id).read_config()
        if run.id in self.runs.file.records or not (begun is None or _is(run.config, begun)):
            return replace(run, id=f"{run.id}-{run.identity[:8]}")
        return run

    def _winners(self) -> list[TrialRecord]:
        """Return the winning trial of each condition on each task."""
        return self._update()[0]

    def _ended(self) -> set[FinalRun]:
        """Return the ended final runs of the present winners."""
        return self._update()[1]

    def _update(self) -> tuple[list[TrialRecord], set[FinalRun]]:
        """Derive both from the records; only when some were added, since this is asked often."""
        if self._found[0] != len(self.runs.file.records):
            winners = present_winners(self.runs.records, self.study)
            ended = {_key(run) for run in ended_finals(winners, self.runs.records)}
            self._found = len(self.runs.file.records), winners, ended
        return self._found[1:]
