"""Optuna's side of a study: what to try next, and whether to go on with it. No Ray.

Everything that the search knows is in Optuna's storage, so a search that is opened again, by the
same study resumed or by Optuna's own tools, knows what the first one did: what was drawn, the
rungs that trials reached, and how each ended.
"""

import json
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from study.config import ASHAConfig, StudyConfig, TPEConfig
from study.space import SearchSpace
from trainables.config import TrialConfig
from trainables.randomness import derive_seed
from trainables.schema import validate

Outcome = Literal["complete", "stopped", "failed"]
"""A trial ran to its end, was stopped early by the pruner, or failed."""

STATES: dict[Outcome, TrialState] = {
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
"""What Optuna calls them."""

DECIDED = "decided"
"""Attribute of a trial in Optuna's storage: the last evaluation after which it may go on."""


@dataclass(frozen=True)
class Suggestion:
    """A trial that the search wants to be run."""

    number: int
    """Optuna's."""
    config: TrialConfig
    params: dict[str, str | int | float | bool | None]
    """The open values that were drawn, by path."""


class Search:
    """A search in an Optuna storage; opening it again goes on with it.

    Args:
        study: Sampler, pruner and seed.
        space: What is searched.
        journal: The storage's file.
        name: The study's name in the storage.
    """

    def __init__(self, study: StudyConfig, space: SearchSpace, journal: Path, name: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.config = study
        self.space = space
        self.conditions = study.conditions(space)
        _repair(journal)
        self.optuna_study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal))), study_name=name,
            direction="maximize", load_if_exists=True)
        for trial in self._trials(TrialState.RUNNING):
            if "config" not in trial.user_attrs:  # killed between drawing and noting
                self._tell(trial.number, TrialState.FAIL)

    def ask(self) -> Suggestion:
        """Draws a trial.

        Each draw starts from a seed of its own, so that a resumed search draws what an
        uninterrupted one would have.
        """
        drawn = self._drawn()
        self.optuna_study.sampler = make_sampler(self.config, derive_seed(
            self.config.seed, "sampler", len(drawn)))
        queued = self._trials(TrialState.WAITING)  # by a study that was killed right after
        if self.config.equal_budget and not queued:
            counts = Counter(self.conditions.key(trial.params) for trial in drawn)
            behind = min(self.conditions.combinations,
                         key=lambda params: counts[self.conditions.key(params)])
            self.optuna_study.enqueue_trial(dict(behind))
        trial = self.optuna_study.ask()
        config = self.space.sample(trial)
        trial.set_user_attr("config", json.dumps(config.model_dump(mode="json")))
        return Suggestion(trial.number, config, dict(trial.params))

    def num_asked(self) -> int:
        """Trials drawn so far, whatever became of them."""
        return len(self._drawn())

    def unfinished(self) -> list[Suggestion]:
        """Trials that were drawn and not told: what a resumed study goes on with."""
        return [
            Suggestion(trial.number, validate(TrialConfig, json.loads(trial.user_attrs["config"])),
                       dict(trial.params))
            for trial in self._trials(TrialState.RUNNING)
        ]

    def report(self, number: int, evaluation: int, objective: float) -> bool:
        """Notes the value of an evaluation; says whether the trial should stop.

        A report that is known from before an interruption changes nothing, unless the study was
        killed before it had decided about it.
        """
        frozen = self._trial(number)
        if evaluation <= frozen.user_attrs.get(DECIDED, 0):
            return False
        live = self._live(frozen)
        if evaluation not in frozen.intermediate_values:
            live.report(objective, evaluation)
        rivals = [trial.intermediate_values[evaluation] for trial in self._trials()
                  if self.conditions.key(trial.params) == self.conditions.key(frozen.params)
                  and evaluation in trial.intermediate_values]
        if should_stop(self.config, evaluation, objective, rivals):
            return True
        live.set_user_attr(DECIDED, evaluation)
        return False

    def finish(self, number: int, outcome: Outcome, objective: float | None, reason: str | None
               ) -> None:
        """Notes how a trial ended; a second telling is ignored."""
        frozen = self._trial(number)
        if frozen.state.is_finished():
            return
        if reason is not None:
            self._live(frozen).set_user_attr("reason", reason)
        self._tell(number, STATES[outcome], objective)

    def _tell(self, number: int, state: TrialState, objective: float | None = None) -> None:
        value = objective if state == TrialState.COMPLETE else None
        self.optuna_study.tell(number, value, state=state)

    def _live(self, frozen: FrozenTrial) -> optuna.Trial:
        return optuna.Trial(self.optuna_study, frozen._trial_id)

    def _trial(self, number: int) -> FrozenTrial:
        return self._trials()[number]

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.optuna_study.get_trials(deepcopy=False, states=states or None)

    def _drawn(self) -> list[FrozenTrial]:
        return [t for t in self._trials() if "config" in t.user_attrs]


def make_sampler(study: StudyConfig, seed: int) -> BaseSampler:
    """The configured sampler, started at ``seed``."""
    settings = study.sampler.config
    seed %= 2**32
    if isinstance(settings, TPEConfig):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return TPESampler(n_startup_trials=settings.num_startup_trials, multivariate=True,
                              group=True, seed=seed)
    return RandomSampler(seed=seed)


def should_stop(study: StudyConfig, evaluation: int, objective: float, rivals: Sequence[float]
                ) -> bool:
    """Whether a trial is to be stopped after an evaluation.

    Methods learn at different speeds; stopping the slower one early would decide between methods
    rather than between the settings of each. So rivals are of the trial's own condition.

    Args:
        study: Its pruner.
        evaluation: Counted from 1.
        objective: The trial's there.
        rivals: Those of all trials that have come so far, the trial's own among them.
    """
    settings = study.pruner.config
    if not isinstance(settings, ASHAConfig) or not _is_rung(settings, evaluation):
        return False
    num_kept = max(len(rivals) // settings.reduction_factor, 1)
    return objective < sorted(rivals, reverse=True)[num_kept - 1]


def _is_rung(settings: ASHAConfig, evaluation: int) -> bool:
    rung = settings.min_evaluations
    while rung < evaluation:
        rung *= settings.reduction_factor
    return rung == evaluation


def _repair(journal: Path) -> None:
    """Removes what a killed process left: a line cut short, and its lock.

    Optuna would read no further than the line and wait half a minute for the lock. A study's
    folder has one owner at a time, who is about to open it.
    """
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if journal.exists():
        cut_torn_line(journal)


def cut_torn_line(path: Path) -> None:
    """Shortens a file of lines whose last one has no end: a crash cut it off."""
    content = path.read_bytes()
    whole, newline, torn = content.rpartition(b"\n")
    if torn:
        with path.open("r+b") as file:
            file.truncate(len(whole) + len(newline))
