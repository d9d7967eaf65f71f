"""The final runs that count: those of the present winners.

A study that is resumed with more trials may find another winner. The earlier winner's final runs
stay in the records but do not count for the new one: a final run belongs to the winner whose
configuration it has, up to the seed and the test sets.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from study.config.study_config import StudyConfig
from study.trials.ranking import rank_trials, winners
from study.trials.records import TrialRecord, by_task
from trainables.trial_config import TrialConfig


def finals_of(best: Iterable[TrialRecord], records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the complete final runs of these winners: the ones that figures come from.

    Args:
        best: The winner of each condition on each task.
        records: All records of the study.
    """
    return [run for run in ended_finals(best, records) if run.is_complete_final]


def ended_finals(best: Iterable[TrialRecord], records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the ended final runs of these winners, failed ones included.

    The final runs of a condition without a winner among the records all count.
    """
    of = {(winner.task, winner.condition): winner for winner in best}
    return [
        run
        for run in records
        if run.stage == "final"
        and ((winner := of.get((run.task, run.condition))) is None or _is_run_of(run, winner))
    ]


def present_winners(records: Sequence[TrialRecord], study: StudyConfig) -> list[TrialRecord]:
    """Return the winner of each condition on each task, by the records so far."""
    ranks = rank_trials(records, study.joint, len(study.task_names)) if study.joint else None
    tasks = by_task(records)
    return [
        winner
        for task in dict.fromkeys((*study.task_names, *tasks))
        for winner in winners(tasks.get(task, []), ranks).values()
    ]


def _is_run_of(run: TrialRecord, winner: TrialRecord) -> bool:
    """Return whether the two configurations are equal but for seed and test sets.

    Digests are not compared: records of an earlier version lack settings that were added since,
    and ran with their defaults. A configuration that this version, or this machine without the
    plugin, cannot read counts by its text.
    """
    try:
        return _without_seed_and_test(run.trial_config) == _without_seed_and_test(
            winner.trial_config
        )
    except ValueError:
        return _raw_settings(run.config) == _raw_settings(winner.config)


def _without_seed_and_test(config: TrialConfig) -> TrialConfig:
    evaluation = config.evaluation.model_copy(update={"test": False})
    return config.model_copy(update={"seed": 0, "evaluation": evaluation})


def _raw_settings(config: dict[str, Any]) -> dict[str, Any]:
    evaluation = {key: value for key, value in config["evaluation"].items() if key != "test"}
    return {**config, "seed": None, "evaluation": evaluation}
