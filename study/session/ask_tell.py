"""The search in Optuna's terms: ask for a trial, report its values, tell how it ended. No Ray.

The whole state of a search is in Optuna's storage. Whoever opens it again, a resumed study or
Optuna's own tools, finds what was drawn, the rungs that trials reached, and how each ended.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import BaseTrial, FrozenTrial, TrialState

from study.config.study_config import StudyConfig
from study.search.pruners import Rivals
from study.search.samplers import make_sampler, resolve
from study.spaces.conditions import Key
from study.spaces.nodes import Rename, Scalar
from study.spaces.search_space import SearchSpace
from study.storage.lines import cut_torn_line
from study.trials.records import Outcome
from trainables.configuration.former_keys import former_path, present_path
from trainables.configuration.schema import validate
from trainables.runtime.randomness import derive_seed
from trainables.trial_config import TrialConfig

STATES: dict[Outcome, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
"""Optuna's states of the outcomes."""

DECIDED = "decided"
"""Attribute of a trial in Optuna's storage: the last evaluation after which it was not pruned."""


@dataclass(frozen=True)
class Suggestion:
    """A trial that the search wants to run."""

    number: int
    """The trial's number in Optuna."""
    config: TrialConfig
    """The configuration, with paths as the space spells them."""
    params: dict[str, str | int | float | bool | None]
    """The drawn values by path."""


class Search:
    """A search in an Optuna storage; opening the storage again continues it.

    Trials are read from the storage once. What each draw and report needs to know about them is
    kept in memory, so that a step does not slow down as the study grows.

    Args:
        study: Sampler, pruner and seed.
        space: What is searched.
        journal: The storage's file; ``None``: in memory, for simulations.
        name: The study's name in the storage.
    """

    def __init__(
        self, study: StudyConfig, space: SearchSpace, journal: Path | None, name: str
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.config = study
        self.conditions = study.conditions(space)
        self.sampler = resolve(study.sampler, space, study.num_trials)
        self.storage = _storage(journal)
        self.optuna_study = optuna.create_study(
            storage=self.storage,
            study_name=name,
            load_if_exists=True,
            directions=["maximize"] if study.cost is None else ["maximize", "minimize"],
        )
        # Parameters keep the names that the first version to write this storage gave them: under
        # new names the sampler would not see the values of earlier trials.
        names = {name for trial in self._trials() for name in (*trial.params, *_queued(trial))}
        has_former = any(present_path(name) != name for name in names)
        self.stored_name: Rename = former_path if has_former else str
        self.space = replace(space, tree=space.tree.renamed(self.stored_name))
        for trial in self._trials(TrialState.RUNNING):
            if "config" not in trial.user_attrs:  # killed in the midst of a draw
                self._tell(trial.number, TrialState.FAIL)
        self._count_trials()

    def _count_trials(self) -> None:
        self.drawn: Counter[Key] = Counter()
        """Number of trials drawn of each condition, whatever their outcome."""
        self.num_queued = len(self._trials(TrialState.WAITING))
        """Trials that wait with given values. Only this study enqueues them, perhaps before it was
        killed: a study's folder has one owner."""
        self.rivals = Rivals(self.config.pruner.config, self.config.seed)
        for trial in self._trials():
            condition = self.conditions.key(_params(trial))
            if "config" in trial.user_attrs:
                self.drawn[condition] += 1
            for evaluation, value in trial.intermediate_values.items():
                self.rivals.on_report(condition, trial.number, evaluation, value)
            self.rivals.on_end(condition, trial)

    def add(self, trials: Iterable[FrozenTrial]) -> None:
        """Add trials that ended elsewhere; they do not count as drawn."""
        self.optuna_study.add_trials(renamed(trial, self.stored_name) for trial in trials)
        self._count_trials()

    def enqueue(self, params: Mapping[str, Any], skip_if_exists: bool = False) -> None:
        """Have these values drawn next, after those that were enqueued before."""
        self.optuna_study.enqueue_trial(
            {self.stored_name(name): value for name, value in params.items()},
            skip_if_exists=skip_if_exists,
        )
        self.num_queued += 1

    def ask(self) -> Suggestion:
        """Draw a trial.

        Each draw has its own seed, so that a resumed search draws what an uninterrupted one would.
        """
        self.optuna_study.sampler = make_sampler(
            self.sampler, derive_seed(self.config.seed, "sampler", self.num_asked())
        )
        if self.config.equal_budget and not self.num_queued:
            self.enqueue(
                min(
                    self.conditions.combinations,
                    key=lambda params: self.drawn[self.conditions.key(params)],
                )
            )
        trial = self.optuna_study.ask()
        self.num_queued = max(self.num_queued - 1, 0)
        config = self.space.sample(trial)
        trial.set_user_attr("config", json.dumps(config.model_dump(mode="json")))
        params = _params(trial)
        self.drawn[self.conditions.key(params)] += 1
        return Suggestion(trial.number, config, params)

    def num_asked(self) -> int:
        """Return the number of trials drawn so far, whatever their outcome."""
        return self.drawn.total()

    def get_attr(self, key: str, default: Any) -> Any:
        """Return a value that was stored with the search."""
        return self.optuna_study.user_attrs.get(key, default)

    def set_attr(self, key: str, value: Any) -> None:
        """Store a value with the search."""
        self.optuna_study.set_user_attr(key, value)

    def unfinished(self) -> list[Suggestion]:
        """Return the trials that were drawn and have not ended: a resumed study runs them."""
        return [
            Suggestion(
                trial.number,
                validate(TrialConfig, json.loads(trial.user_attrs["config"])),
                _params(trial),
            )
            for trial in self._trials(TrialState.RUNNING)
        ]

    def report(self, number: int, evaluation: int, objective: float) -> bool:
        """Store the value of an evaluation; return whether to prune the trial.

        Repeating a report after an interruption changes nothing, unless the study was killed
        before the pruner had decided. With a second objective nothing is pruned, and Optuna
        accepts no intermediate values.
        """
        if self.config.cost is not None:
            return False
        frozen = self._trial(number)
        if evaluation <= frozen.user_attrs.get(DECIDED, 0):
            return False
        # Methods learn at different speeds: pruning the slower one would choose between methods
        # rather than between the settings of each.
        condition = self.conditions.key(_params(frozen))
        # Through the storage, since creating an optuna.Trial makes the sampler read all trials.
        if evaluation not in frozen.intermediate_values:
            self.storage.set_trial_intermediate_value(frozen._trial_id, evaluation, objective)
            self.rivals.on_report(condition, number, evaluation, objective)
        if self.rivals.stop(condition, number, evaluation, objective):
            return True
        self.storage.set_trial_user_attr(frozen._trial_id, DECIDED, evaluation)
        return False

    def finish(
        self,
        number: int,
        outcome: Outcome,
        objective: float | None,
        reason: str | None,
        cost: float | None = None,
    ) -> None:
        """Store how a trial ended; a second call is ignored.

        Args:
            number: The trial's number in Optuna.
            outcome: How the trial ended.
            objective: Its score; ``None`` if it failed before the first evaluation.
            reason: The cause of a failure.
            cost: Its cost, if the study minimises one.
        """
        frozen = self._trial(number)
        if frozen.state.is_finished():
            return
        if reason is not None:
            self.storage.set_trial_user_attr(frozen._trial_id, "reason", reason)
        values = [value for value in (objective, cost) if value is not None]
        self._tell(number, STATES[outcome], values)
        self.rivals.on_end(self.conditions.key(_params(frozen)), self._trial(number))

    def _tell(self, number: int, state: TrialState, values: Sequence[float] = ()) -> None:
        self.optuna_study.tell(
            number, values if state == TrialState.COMPLETE else None, state=state
        )

    def _trial(self, number: int) -> FrozenTrial:
        return self.storage.get_trial(
            self.storage.get_trial_id_from_study_id_trial_number(
                self.optuna_study._study_id, number
            )
        )

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.optuna_study.get_trials(deepcopy=False, states=states or None)


def renamed(trial: FrozenTrial, rename: Rename) -> FrozenTrial:
    """Return a copy of a trial with its parameters renamed."""
    copied = copy(trial)
    copied.params = {rename(name): value for name, value in trial.params.items()}
    copied.distributions = {rename(name): d for name, d in trial.distributions.items()}
    return copied


def _params(trial: BaseTrial | FrozenTrial) -> dict[str, Scalar]:
    """Return the values that a trial drew, by their present names."""
    return {present_path(name): value for name, value in trial.params.items()}


def _queued(trial: FrozenTrial) -> Iterable[str]:
    """Return the names of values that Optuna will give a waiting trial."""
    fixed: Mapping[str, Any] = trial.system_attrs.get("fixed_params", {})
    return fixed


def _storage(journal: Path | None) -> BaseStorage:
    if journal is None:
        return InMemoryStorage()
    _repair(journal)
    return JournalStorage(JournalFileBackend(str(journal)))


def _repair(journal: Path) -> None:
    """Remove what a killed process left: a torn line, and its lock.

    Optuna would stop reading at the line, and wait half a minute for the lock. Nobody else can
    hold that lock, because a study's folder has one owner, who is about to open it.
    """
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if journal.exists():
        cut_torn_line(journal)
