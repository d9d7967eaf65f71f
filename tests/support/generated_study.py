"""A study of as many trials as one likes, by formula, with its Optuna storage; made in seconds."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from study.session.ask_tell import STATES
from study.trials.ranking import winners
from study.trials.records import EvaluationRecord, Outcome, TrialRecord
from study.trials.running_trial import search_id
from tests.support.fake_trials import make_study
from tests.support.stored_studies import describe
from trainables.checkpointing.trial_folder import TrialFolder
from trainables.configuration.schema import validate
from trainables.trial_config import TrialConfig

METHODS = {"no_adaptation": 0.55, "dann": 0.6, "mcd": 0.66}
"""And the accuracy that each comes to."""
CRITERIA = ("bnm", "entropy", "information_maximization", "source_validation")
SEARCH = {
    "optimizer": {
        "learning_rate": {"log_uniform": [1e-5, 1e-1]},
        "weight_decay": {"log_uniform": [1e-6, 1e-2]},
    },
    "augmentation": {"choice": ["weak", "strong"]},
    "method": {
        "choice": {
            "no_adaptation": {},
            "dann": {"domain_weight": {"log_uniform": [0.01, 10.0]}},
            "mcd": {"num_generator_steps": {"integer": [1, 4]}},
        }
    },
}
START = datetime(2026, 1, 1)


def generate(
    folder: Path, num_trials: int, num_evaluations: int = 10, num_classes: int = 10
) -> Path:
    """Writes a study whose trials are drawn at random and end by formula."""
    study_folder = describe(folder, num_trials=num_trials, search=SEARCH)
    _, space = make_study(num_trials=num_trials, search=SEARCH)
    memory = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    records = []
    for number in range(num_trials):
        trial = memory.ask()
        config = space.sample(trial)
        record = _record(search_id(number), config, dict(trial.params), num_evaluations, number)
        records.append(record)
    stored = [
        _stored(frozen, record) for frozen, record in zip(memory.trials, records, strict=True)
    ]
    best = winners(records)
    for method, accuracy in METHODS.items():
        plain = validate(TrialConfig, {"task": "digits", "method": method})
        chosen = best[method].config if method in best else plain.model_dump(mode="json")
        records += [
            _final(
                study_folder.trial(f"final-{method}-seed{seed}"),
                chosen,
                accuracy,
                seed,
                num_evaluations,
                num_classes,
            )
            for seed in (1, 2, 3)
        ]
    with study_folder.records.open("w") as file:
        file.writelines(record.model_dump_json() + "\n" for record in records)
    storage = JournalStorage(JournalFileBackend(str(study_folder.journal)))
    optuna.create_study(storage=storage, study_name=folder.name, direction="maximize").add_trials(
        stored
    )
    return folder


def _record(
    name: str, config: TrialConfig, params: dict[str, object], num_evaluations: int, number: int
) -> TrialRecord:
    outcome: Outcome = ("complete", "pruned", "failed")[0 if number % 3 else number % 2 + 1]
    length = num_evaluations if outcome == "complete" else max(num_evaluations // 3, 1)
    best = METHODS[config.method.name] - abs(0.1 * ((number * 37) % 11) / 11)
    evaluations = []
    for index in range(1, length + 1):
        accuracy = best * (1 - 0.6**index)
        metrics = {f"criterion/{c}": accuracy * (1 + 0.1 * i) for i, c in enumerate(CRITERIA)}
        evaluations.append(
            EvaluationRecord(
                evaluation=index,
                epoch=float(index),
                objective=accuracy,
                metrics={
                    **metrics,
                    "criterion/oracle": accuracy + 0.002 * (number % 7),
                    "source_val/accuracy": 0.5 + accuracy / 2,
                    "loss/classification": 1.0,
                },
            )
        )
    return TrialRecord(
        id=name,
        stage="search",
        condition=config.method.name,
        method=config.method.name,
        seed=config.seed,
        outcome=outcome,
        params=params,
        identity=config.identity(),
        config=config.model_dump(mode="json"),
        objective=evaluations[-1].objective,
        best_evaluation=length,
        num_evaluations=num_evaluations,
        evaluations=evaluations,
        seconds=30.0,
        cpu_seconds=20.0,
    )


def _final(
    folder: Path,
    winner: dict[str, Any],
    accuracy: float,
    seed: int,
    num_evaluations: int,
    num_classes: int,
) -> TrialRecord:
    config = validate(TrialConfig, {**winner, "seed": seed})
    record = _record(folder.name, config, {"method": config.method.name}, num_evaluations, 1)
    reached = accuracy + 0.01 * seed
    right = round(1000 * reached)
    counts = [
        [right if i == j else (1000 - right) // (num_classes - 1) for j in range(num_classes)]
        for i in range(num_classes)
    ]
    TrialFolder(folder).write_confusion(
        "target_test", [f"class {i}" for i in range(num_classes)], counts
    )
    return record.model_copy(
        update={
            "stage": "final",
            "test": {
                "target_test/accuracy": reached,
                "target_test/mean_class_accuracy": reached - 0.02,
            },
        }
    )


def _stored(frozen: FrozenTrial, record: TrialRecord) -> FrozenTrial:
    start = START + timedelta(seconds=15 * frozen.number)
    frozen.state = STATES[record.outcome]
    frozen.value = record.objective if frozen.state == TrialState.COMPLETE else None
    frozen.datetime_start, frozen.datetime_complete = start, start + timedelta(seconds=30)
    frozen.intermediate_values = {e.evaluation: e.objective for e in record.evaluations}
    frozen.user_attrs = {"config": "x" * 1500}
    return frozen
