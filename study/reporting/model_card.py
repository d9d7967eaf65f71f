"""The model card of an exported winner, in the layout of Hugging Face's model cards."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from study.analysis.comparison import BATCHNORM, TARGET, Spread
from study.reporting.summary import percent
from study.storage.study_folder import StudyFolder
from study.trials.records import TrialRecord
from trainables.config import TrialConfig, criteria_of
from trainables.configuration.schema import validate
from trainables.criteria import SELECTORS
from trainables.inference.classifier import ModelDescription, ModelFolder, read_description
from trainables.methods import METHODS
from trainables.tasks import TASKS

_MEANINGS = {TARGET: "target (real images)", "source_val": "source (held-out)"}
"""What sets are called in the table, where their own name does not say it."""


def model_card(
    winner: TrialRecord,
    peers: Sequence[TrialRecord],
    files: ModelFolder,
    study_folder: StudyFolder,
) -> str:
    """Writes the card.

    Args:
        winner: The final run whose weights are exported.
        peers: All final runs of its condition, the winner among them.
        files: The exported folder; classes and transform are read from it.
        study_folder: Of the study.
    """
    config = validate(TrialConfig, winner.config)
    description = read_description(files.description)
    sections = (
        f"---\n{_metadata(winner, config)}\n---",
        f"# Model Card for {_name(config)}",
        _summary(config, description),
        _details(winner, config),
        _uses(config, description),
        _how_to_start(files.root),
        _training(winner, config, description),
        _evaluation(winner, peers, config),
        _environment(peers, study_folder),
    )
    return "\n\n".join(sections) + "\n"


def _name(config: TrialConfig) -> str:
    return f"{config.backbone.name}-{config.method.name}-{config.task.name}"


def _metadata(winner: TrialRecord, config: TrialConfig) -> str:
    """The YAML at the top, with this run's own figures."""
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
    data = ModelCardData(
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
    return data.to_yaml().strip()


def _by_oracle(config: TrialConfig) -> bool:
    criterion = SELECTORS.look_up(config.selection.criterion.name)
    return criterion.reads_target_labels


def _accuracies(record: TrialRecord, metric: str) -> dict[str, float]:
    """A metric by set: of the target, the other test sets and the source's hold-out.

    Figures with re-estimated batch statistics are another model's than the exported one.
    """
    figures = {
        name.removesuffix(f"/{metric}"): value
        for name, value in record.test.items()
        if name.endswith(f"/{metric}") and not name.startswith(BATCHNORM)
    }
    figures = dict(sorted(figures.items(), key=lambda item: item[0] != TARGET))
    held_out = record.selected().get(f"source_val/{metric}")
    return figures if held_out is None else {**figures, "source_val": held_out}


def _summary(config: TrialConfig, description: ModelDescription) -> str:
    return _wrapped(
        f"An image classifier for {len(description.classes)} classes, trained on synthetic images "
        f"for real ones: `{config.backbone.name}` with `{config.method.name}` on task "
        f"`{config.task.name}`."
    )


def _details(winner: TrialRecord, config: TrialConfig) -> str:
    method = METHODS.look_up(config.method.name)
    condition = (
        ()
        if winner.condition == winner.method
        else (f"- **Condition of the study:** {winner.condition}",)
    )
    return "\n".join(
        (
            "## Model Details",
            "",
            f"- **Model type:** image classification, backbone `{config.backbone.name}`, "
            f"initialised: `{config.initialization.name}`",
            f"- **Method:** `{config.method.name}`. {_first_paragraph(method.__doc__)}",
            *condition,
            f"- **Identity:** trial configuration `{config.identity()}` (`trial.yaml`)",
            "- **License:** that of the data and initial weights applies; none is stated here",
        )
    )


def _uses(config: TrialConfig, description: ModelDescription) -> str:
    task = TASKS.look_up(config.task.name)
    classes = ", ".join(description.classes)
    return "\n\n".join(
        (
            "## Uses",
            _wrapped(f"Classifies an image as one of: {classes}."),
            "## Bias, Risks, and Limitations",
            _wrapped(
                "It knows these classes alone: an image of anything else gets one of them, "
                "perhaps "
                "with high probability. Probabilities are a softmax and not calibrated. Figures "
                "below "
                "hold for images like those of the task: " + _first_paragraph(task.__doc__)
            ),
        )
    )


def _how_to_start(folder: Path) -> str:
    name = folder.resolve().name
    return textwrap.dedent(f"""\
        ## How to Get Started with the Model

        ```
        python -m trainables.predict {name} photo.jpg folder/ --csv classes.csv
        ```

        ```python
        from trainables import load_model

        model = load_model("{name}")
        for result in model.classify(["photo.jpg"]):
            print(result)
        ```""")


def _training(winner: TrialRecord, config: TrialConfig, description: ModelDescription) -> str:
    task = TASKS.look_up(config.task.name)
    transform = description.transform
    length = (
        f"{config.schedule.num_epochs} epochs"
        if config.schedule.num_epochs
        else f"{config.schedule.num_steps} steps"
    )
    searched = [f"- `{name}`: {_value(value)}" for name, value in winner.params.items()]
    return "\n".join(
        (
            "## Training Details",
            "",
            "### Training Data",
            "",
            _wrapped(f"Task `{config.task.name}`. {_first_paragraph(task.__doc__)}"),
            "",
            "### Preprocessing",
            "",
            _wrapped(
                f"At test time the short side is scaled to {transform.resize_size} pixels "
                f"(bilinear, "
                f"antialiased), {transform.crop_size} × {transform.crop_size} are cut from the "
                f"centre, values are scaled to 0…1, and channels are normalised to mean "
                f"{_channels(transform.mean)} and deviation {_channels(transform.std)} "
                "(`model.yaml`)."
            ),
            "",
            "### Training Hyperparameters",
            "",
            _wrapped(
                f"{length}, batch size {config.batch_size}, {config.optimizer.algorithm}, seed "
                f"{config.seed}; all settings are in `trial.yaml`."
            ),
            *(("\nFound by the search:\n", *searched) if searched else ()),
        )
    )


def _evaluation(winner: TrialRecord, peers: Sequence[TrialRecord], config: TrialConfig) -> str:
    seeds = ", ".join(str(peer.seed) for peer in peers)
    rows = [
        "| set | accuracy of this model (%) | accuracy over seeds (%) | mean class accuracy "
        "over seeds (%) |",
        "|---|---:|---:|---:|",
    ]
    for name, own in _accuracies(winner, "accuracy").items():
        over = [_over_seeds(peers, metric, name) for metric in ("accuracy", "mean_class_accuracy")]
        rows.append(f"| {_MEANINGS.get(name, name)} | {100 * own:.1f} | {' | '.join(over)} |")
    missing = (
        ()
        if f"{TARGET}/accuracy" in winner.test
        else (
            "There is no target accuracy: the task has no labelled test images of a set "
            f"`{TARGET}`.",
        )
    )
    return "\n\n".join(
        (
            "## Evaluation",
            "### Results",
            "\n".join(rows),
            *map(_wrapped, missing),
            _wrapped(
                f"Mean ± standard deviation over the final runs of the same settings: seeds "
                f"{seeds}. The model here is that of seed {winner.seed}."
            ),
            _wrapped(_selection(config)),
        )
    )


def _over_seeds(peers: Sequence[TrialRecord], metric: str, name: str) -> str:
    values = tuple(
        figures[name] for peer in peers if name in (figures := _accuracies(peer, metric))
    )
    return percent(Spread(values) if values else None, len(values))


def _selection(config: TrialConfig) -> str:
    averaged = criteria_of(config.selection.criterion)
    criterion = (
        f"the average rank by {', '.join(f'`{name}`' for name in averaged)}"
        if len(averaged) > 1
        else f"`{averaged[0]}`"
    )
    if _by_oracle(config):
        return (
            f"Settings, checkpoint and seed were selected by {criterion}, an ORACLE that "
            "reads target labels: all figures above are oracle figures, which nobody without "
            "labels can reach."
        )
    return (
        f"Settings, checkpoint and seed were selected by {criterion}, which reads no target "
        "label; the test sets had no part in it."
    )


def _environment(peers: Sequence[TrialRecord], study_folder: StudyFolder) -> str:
    """What the final runs cost, and what they ran on as far as the study says so."""
    lines = [
        "## Technical Specifications",
        "",
        f"- **Cost:** {sum(peer.cpu_seconds for peer in peers):.0f} CPU-seconds "
        "for the final runs, without the search",
    ]
    if study_folder.environment.exists():
        latest = json.loads(study_folder.environment.read_text())[-1]
        devices = ", ".join(latest["gpus"]) or "no GPU"
        lines += [
            f"- **Hardware:** {latest['processor']}, {latest['cpus']} CPU cores, {devices}",
            f"- **Software:** Python {latest['python']}, {_versions(latest['packages'])}, "
            f"revision {latest['git_revision'] or 'unknown'}",
        ]
    return "\n".join(lines)


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


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 99, break_on_hyphens=False, break_long_words=False)
