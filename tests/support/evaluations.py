"""An evaluation of a small classifier, for tests of criteria."""

import torch
from torch import Tensor

from trainables.data.evaluation import Mixtures, OracleEvaluation, Predictions
from trainables.data.mixing_pairs import probing_pairs
from trainables.runtime.randomness import generator

NUM_CLASSES = 4
DIM = 6


def blobs(name: str, num_images: int, shift: float) -> tuple[Tensor, Tensor]:
    """Features ``(N, 6)`` of blobs, and their labels."""
    means = 2 * torch.randn(NUM_CLASSES, DIM, generator=generator(0, "means"))
    rng = generator(0, name)
    labels = torch.randint(NUM_CLASSES, (num_images,), generator=rng)
    return means[labels] + shift + torch.randn(num_images, DIM, generator=rng), labels


def an_evaluation() -> OracleEvaluation:
    """The evaluation of a linear classifier that knows the blobs of the source, roughly."""
    classifier = torch.randn(NUM_CLASSES, DIM, generator=generator(0, "means"))

    def predict(features: Tensor) -> Predictions:
        return Predictions(0.3 * features @ classifier.T, features)

    source, source_labels = blobs("source", 60, 0.0)
    target, _ = blobs("target", 90, 0.4)
    labelled, labels = blobs("labelled", 40, 0.4)
    first, second = probing_pairs(predict(target).logits.argmax(dim=1), 20)
    mixed = predict(0.55 * target[first] + 0.45 * target[second])
    mixtures = Mixtures(first, second, mixed.logits)
    return OracleEvaluation(
        predict(source),
        source_labels,
        predict(target),
        mixtures,
        (classifier,),
        predict(labelled),
        labels,
    )


def collapsed(
    evaluation: OracleEvaluation, logits: Tensor, same_features: bool
) -> OracleEvaluation:
    """The evaluation of a network that gives every image the same logits ``(K,)``."""

    def replaced(predictions: Predictions) -> Predictions:
        features = torch.ones_like(predictions.features) if same_features else predictions.features
        return Predictions(logits.expand(len(features), -1).clone(), features)

    first, second = probing_pairs(torch.zeros(len(evaluation.target.logits), dtype=torch.int64))
    return OracleEvaluation(
        source=replaced(evaluation.source),
        source_labels=evaluation.source_labels,
        target=replaced(evaluation.target),
        mixtures=Mixtures(first, second, logits.expand(len(first), -1)),
        class_weights=evaluation.class_weights,
        target_val=replaced(evaluation.target_val),
        target_val_labels=evaluation.target_val_labels,
    )
