"""Features of a study's winners, drawn in the plane."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from study.analysis.stored_study import read_finals
from study.spaces.conditions import file_name
from study.storage.study_folder import StudyFolder
from study.trials.records import TrialRecord, by_task
from trainables.configuration.schema import validate
from trainables.data.images import Images, ImageSubset
from trainables.inference.trained_method import load_trained
from trainables.runtime.randomness import generator
from trainables.training.domains import open_domains
from trainables.training.evaluator import Evaluator
from trainables.trial_config import TrialConfig

MAX_IMAGES = 1000
"""Maximum number of images per domain, drawn at random: t-SNE takes long for more."""


@dataclass(frozen=True)
class Embedding:
    """Features of images of both domains."""

    features: Tensor
    """Shape ``(N, D)``."""
    labels: Tensor
    """int64, shape ``(N,)``."""
    is_target: Tensor
    """bool, shape ``(N,)``."""
    classes: tuple[str, ...]
    predicted: bool
    """Whether target labels are the network's predictions."""


def embed(record: TrialRecord, study_folder: StudyFolder, cache: Path) -> Embedding:
    """Compute features with a final run's selected checkpoint.

    Raises:
        ValueError: The run left no checkpoint, or its task has no target.
    """
    config = validate(TrialConfig, record.config)
    domains = open_domains(config, cache)
    if domains.target_train is None:
        raise ValueError(f"{record.id}: its task has no target, so there is nothing to draw.")
    files = study_folder.files(record.id)
    files.fetch(files.best)
    meter = load_trained(config, files.path, domains)
    source = domains.source_val
    chosen = _sample(len(source), record.seed)
    features, labels = [_features(meter, source.images, chosen)[0]], [source.labels[chosen]]
    target = domains.target_val
    images = domains.target_train.images if target is None else target.images
    chosen = _sample(len(images), record.seed)
    target_features, predicted = _features(meter, images, chosen)
    features.append(target_features)
    labels.append(predicted if target is None else target.labels[chosen])
    return Embedding(
        torch.cat(features),
        torch.cat(labels),
        torch.arange(sum(map(len, labels))) >= len(labels[0]),
        domains.classes,
        target is None,
    )


def _sample(num_images: int, seed: int) -> Tensor:
    return torch.randperm(num_images, generator=generator(seed, "embedding"))[:MAX_IMAGES]


def _features(meter: Evaluator, images: Images, chosen: Tensor) -> tuple[Tensor, Tensor]:
    predictions, _ = meter.predict(ImageSubset(images, chosen))
    return predictions.features, predictions.logits.argmax(dim=1)


def draw(embedding: Embedding, title: str, path: Path, seed: int) -> None:
    """Draw the features by t-SNE (van der Maaten & Hinton, JMLR 2008), coloured by class.

    Args:
        embedding: The features.
        title: The picture's title.
        path: The PNG file to write.
        seed: The seed of t-SNE.
    """
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(embedding.features) - 1) / 3)
    plane = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(
        embedding.features.numpy()
    )
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.add_subplot()
    target, labels = embedding.is_target.numpy(), embedding.labels.numpy()
    colours = "tab10" if len(embedding.classes) <= 10 else "nipy_spectral"
    for domain, marker, size, alpha in (("source", ".", 50, 0.5), ("target", "^", 26, 0.9)):
        chosen = target if domain == "target" else ~target
        axes.scatter(
            plane[chosen, 0],
            plane[chosen, 1],
            c=labels[chosen],
            cmap=colours,
            vmin=0,
            vmax=max(len(embedding.classes) - 1, 9),
            marker=marker,
            s=size,
            alpha=alpha,
            linewidths=0,
            label=f"{domain} ({int(np.sum(chosen))})",
        )
    if len(embedding.classes) <= 20:
        for label, name in enumerate(embedding.classes):
            members = plane[target & (labels == label)]
            if len(members):
                axes.annotate(name, np.median(members, axis=0), weight="bold", fontsize=13)
    axes.set(title=title, xticks=[], yticks=[])
    meaning = "predicted classes" if embedding.predicted else "true classes"
    axes.legend(title=f"colours: {meaning}", loc="best")
    figure.savefig(path, dpi=110)


def embed_winners(study_folder: StudyFolder) -> Iterator[str]:
    """Draw the first final run of each condition on each task; yield each picture's location."""
    finals = read_finals(study_folder)
    several = len(by_task(finals)) > 1
    for record in {(r.condition, r.task): r for r in reversed(finals)}.values():
        name = f"{record.condition}-{record.task}" if several else record.condition
        path = _write(record, study_folder, name)
        yield f"{study_folder.place}/{path.name}"


def _write(record: TrialRecord, study_folder: StudyFolder, name: str) -> Path:
    """Write a final run's picture and its projector data; return the picture's path."""
    embedding = embed(record, study_folder, study_folder.root.parent / "cache")
    path = study_folder.root / f"embedding-{file_name(name)}.png"
    draw(embedding, f"{name}, seed {record.seed}: t-SNE of pooled features", path, record.seed)
    rows = [
        [embedding.classes[label], "target" if is_target else "source"]
        for label, is_target in zip(
            embedding.labels.tolist(), embedding.is_target.tolist(), strict=True
        )
    ]
    events = study_folder.tensorboard / record.id
    before = set(events.rglob("*"))
    with SummaryWriter(str(events)) as writer:
        writer.add_embedding(
            embedding.features, rows, metadata_header=["class", "domain"], tag="features"
        )
        writer.add_image(
            "embedding",
            np.asarray(Image.open(path).convert("RGB")),
            record.best_evaluation,
            dataformats="HWC",
        )
    if study_folder.store is not None:
        for made in (path, *set(events.rglob("*")) - before):
            if made.is_file():
                study_folder.store.write(
                    made.relative_to(study_folder.root).as_posix(), made.read_bytes()
                )
    return path
