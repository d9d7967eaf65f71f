"""The model card of an exported winner, in the layout of Hugging Face's model cards.

The text is in ``model_card.md.jinja``; this module computes the values in it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from study.analysis.comparison import BATCHNORM, Spread
from study.reporting.summary import percent
from study.storage.study_folder import StudyFolder
from study.trials.records import TrialRecord
from trainables.configuration.schema import validate
from trainables.configuration.yaml_file import load_yaml
from trainables.criteria import SELECTORS
from trainables.inference.classifier import ModelDescription, ModelFolder
from trainables.methods import METHODS
from trainables.tasks import TASKS
from trainables.tasks.base import TARGET_TEST
from trainables.trial_config import TrialConfig, criteria_of

_MEANINGS = {TARGET_TEST: "target (real images)", "source_val": "source (held-out)"}
"""Headings of sets whose own names do not explain them."""

_TEMPLATE = Path(__file__).with_name("model_card.md.jinja")


def model_card(
    winner: TrialRecord,
    peers: Sequence[TrialRecord],
    files: ModelFolder,
    study_folder: StudyFolder,
) -> str:
    """Return the text of the card.

    Args:
        winner: The final run whose weights are exported.
        peers: All final runs of its condition, including the winner.
        files: The exported folder; classes and transform are read from it.
        study_folder: The study's folder.
    """
    config = winner.trial_config
    description = validate(ModelDescription, load_yaml(files.description))
    environment = _environment(study_folder)
    card = ModelCard.from_template(
        _metadata(winner, config),
        template_path=str(_TEMPLATE),
        name=_name(config),
        winner=winner,
        peers=peers,
        config=config,
        classes=description.classes,
        transform=description.transform,
        folder=files.root.resolve().name,
        method=_first_paragraph(METHODS.look_up(config.method.name).__doc__),
        task=_first_paragraph(TASKS.look_up(config.task.name).__doc__),
        length=_length(config),
        searched={name: _value(value) for name, value in winner.params.items()},
        results=list(_results(winner, peers)),
        target=TARGET_TEST,
        has_target=f"{TARGET_TEST}/accuracy" in winner.test,
        criterion=_criterion(config),
        by_oracle=_by_oracle(config),
        environment=environment,
        versions=_versions(environment.get("packages", {})),
        channels=_channels,
    )
    return f"{card.content.strip()}\n"


def _name(config: TrialConfig) -> str:
    return f"{config.backbone.name}-{config.method.name}-{config.task.name}"


def _metadata(winner: TrialRecord, config: TrialConfig) -> ModelCardData:
    """Return the card's metadata, with the results of this run alone."""
    results = [
        EvalResult(
            task_type="image-classification",
            task_name="Image Classification",
            dataset_type=config.task.name,
            dataset_name=config.task.name,
            dataset_split=name,
            metric_type="accuracy",
            metric_value=round(value, 6),
            metric_name=f"Accuracy{' (oracle selection)' if _by_oracle(config) else ''}",
        )
        for name, value in _accuracies(winner, "accuracy").items()
    ]
    return ModelCardData(
        library_name="syn2real-study",
        pipeline_tag="image-classification",
        tags=[
            "image-classification",
            "synthetic-to-real",
            "domain-adaptation",
            config.method.name,
            config.backbone.name,
        ],
        metrics=["accuracy"],
        model_name=_name(config),
        eval_results=results,
    )


def _by_oracle(config: TrialConfig) -> bool:
    criterion = SELECTORS.look_up(config.selection.criterion.name)
    return criterion.reads_target_labels


def _accuracies(record: TrialRecord, metric: str) -> dict[str, float]:
    """Return a metric by set: the target, then other test sets, then the source hold-out.

    Results with re-estimated batch statistics are left out: the exported model does not have them.
    """
    figures = {
        name.removesuffix(f"/{metric}"): value
        for name, value in record.test.items()
        if name.endswith(f"/{metric}") and not name.startswith(BATCHNORM)
    }
    figures = dict(sorted(figures.items(), key=lambda item: item[0] != TARGET_TEST))
    held_out = record.selected().get(f"source_val/{metric}")
    return figures if held_out is None else {**figures, "source_val": held_out}


def _length(config: TrialConfig) -> str:
    schedule = config.schedule
    return (
        f"{schedule.num_epochs} epochs" if schedule.num_epochs else f"{schedule.num_steps} steps"
    )


def _results(winner: TrialRecord, peers: Sequence[TrialRecord]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of a row for each set."""
    for name, own in _accuracies(winner, "accuracy").items():
        over = (_over_seeds(peers, metric, name) for metric in ("accuracy", "mean_class_accuracy"))
        yield (_MEANINGS.get(name, name), f"{100 * own:.1f}", *over)


def _over_seeds(peers: Sequence[TrialRecord], metric: str, name: str) -> str:
    values = tuple(
        figures[name] for peer in peers if name in (figures := _accuracies(peer, metric))
    )
    return percent(Spread(values) if values else None, len(values))


def _criterion(config: TrialConfig) -> str:
    """Return the name of what selected the winner."""
    names = [f"`{name}`" for name in criteria_of(config.selection.criterion)]
    return f"the average rank by {', '.join(names)}" if len(names) > 1 else names[0]


def _environment(study_folder: StudyFolder) -> dict[str, Any]:
    """Return what the study last ran on; empty if it recorded nothing."""
    path = study_folder.environment
    return json.loads(path.read_text())[-1] if path.exists() else {}


def _versions(packages: Mapping[str, str]) -> str:
    return ", ".join(
        f"{name} {packages[name]}" for name in ("torch", "torchvision", "timm") if name in packages
    )


def _first_paragraph(docstring: str | None) -> str:
    return " ".join((docstring or "").split("\n\n")[0].split())


def _channels(values: Sequence[float]) -> str:
    return " / ".join(f"{value:g}" for value in values)


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
