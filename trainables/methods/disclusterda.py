"""Distilled discriminative clustering."""

from typing import final

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.data.batch import Batch
from trainables.methods.base import Method, MethodConfig, second_views
from trainables.nn.clustering import class_sums
from trainables.nn.losses import class_imbalance, kl_divergence, ramp_up, squared_distances
from trainables.nn.networks import Backbone, Networks, Prediction
from trainables.nn.optimization import MakeOptimizer
from trainables.runtime.distributed import Runtime


def filtered_entropy(logits: Tensor) -> Tensor:
    """Mean of ``H·exp(-H)``: entropy that counts less where it is large.

    The adaptive filtering of Tang et al., Pattern Recognition 2022, arXiv:2302.11984. The
    gradient flows through the weight ``exp(-H)`` too, as in the release.

    Args:
        logits: Shape ``(B, K)``.
    """
    entropies = -(F.softmax(logits, dim=1) * F.log_softmax(logits, dim=1)).sum(dim=1)
    return (entropies * (-entropies).exp()).mean()


def moved_centroids(previous: Tensor, features: Tensor, labels: Tensor, keep: float) -> Tensor:
    """Moving averages of class centroids after a batch; the gradient flows through the batch.

    A class's first batch replaces its zero vector; a class that the batch lacks stays.

    Args:
        previous: Constants, shape ``(K, D)``.
        features: Of the *global* batch, shape ``(B, D)``.
        labels: int64, shape ``(B,)``.
        keep: Share of the previous centroid, in ``[0, 1)``.

    Returns:
        Shape ``(K, D)``.
    """
    sums, counts = class_sums(features, labels, len(previous))
    known = previous.ne(0).any(dim=1).to(features.dtype)
    shares = torch.where(counts == 0, 1.0, keep * known)[:, None]
    return shares * previous + (1 - shares) * sums / counts.clamp(min=1)[:, None]


@final
class DisClusterDA(Method):
    """Distilled discriminative clustering (Tang et al., PR 2022, arXiv:2302.11984)."""

    class Config(MethodConfig):
        """The defaults are the release's."""

        adaptation_weight: NonNegativeFloat = 1.0
        """Multiplies the ramp, and so all terms but classification and balance."""
        balance_weight: NonNegativeFloat = 0.01
        """Multiplies the target's class imbalance; it has no ramp."""
        consistency_weight: NonNegativeFloat = 0.0
        """Multiplies, beside the ramp, the divergence between target images and second views of
        them; the release's option uses 1."""
        keep: float = Field(0.7, ge=0, lt=1)
        """Share of a class centroid that a batch leaves as it was."""
        temperature: PositiveFloat = 2.0
        """Divides the logits of centroids, and their distances to each other."""
        softmax_twice: bool = True
        """Whether the cross entropy of source samples among centroids takes the softmax of
        negative distances for logits, as the release does; ``false``: negative distances."""

    config: Config

    def __init__(
        self,
        config: MethodConfig,
        backbone: Backbone,
        num_classes: int,
        make_optimizer: MakeOptimizer,
        runtime: Runtime,
    ) -> None:
        assert isinstance(config, DisClusterDA.Config)
        self.config = config
        self.needs_target_views = config.consistency_weight > 0
        self.all_gather = runtime.all_gather
        self.classifier = nn.Linear(backbone.feature_dim, num_classes)
        self.networks = Networks(backbone, classifier=self.classifier)
        for name in ("source_centroids", "target_centroids"):
            self.networks.register_buffer(name, torch.zeros(num_classes, backbone.feature_dim))
        self.networks.to(runtime.device)
        self.embed = runtime.wrap(Networks(backbone, classifier=self.classifier))
        self.optimizer = make_optimizer(
            backbone=backbone.parameters(), heads=self.classifier.parameters()
        )
        self.optimizers = {"all": self.optimizer}
        self.output_layers = [self.classifier]

    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """See :class:`Method`."""
        weight = self.config.adaptation_weight * ramp_up(progress)
        source, target, *views = self.embed(
            batch.source_images, batch.target_images, *second_views(batch, self.needs_target_views)
        )
        target_logits = self.classifier(target)
        guesses = target_logits.argmax(dim=1)
        source_centroids = self._move("source_centroids", source, batch.source_labels)
        target_centroids = self._move("target_centroids", target, guesses)

        classification = F.cross_entropy(self.classifier(source), batch.source_labels)
        imbalance = class_imbalance(self.all_gather(target_logits.softmax(dim=1)))
        terms = {
            "target_entropy": filtered_entropy(target_logits),
            "target_to_centroids": filtered_entropy(-squared_distances(target, target_centroids)),
            "source_to_centroids": self._source_to_centroids(
                source, source_centroids, batch.source_labels
            ),
            **self._order("source", source_centroids),
            **self._order("target", target_centroids),
        }
        adaptation = sum(terms.values(), start=classification.new_zeros(()))
        for view in views:
            terms["consistency"] = kl_divergence(target_logits, self.classifier(view))
            adaptation = adaptation + self.config.consistency_weight * terms["consistency"]

        self.optimizer.zero_grad()
        (classification + weight * adaptation + self.config.balance_weight * imbalance).backward()
        self.optimizer.step()
        terms |= {"classification": classification, "imbalance": imbalance}
        return {name: term.detach() for name, term in terms.items()}

    def _move(self, name: str, features: Tensor, labels: Tensor) -> Tensor:
        """Moves a domain's centroids by the global batch and stores them without gradient."""
        stored = self.networks.get_buffer(name)
        centroids = moved_centroids(
            stored.clone(), self.all_gather(features), self.all_gather(labels), self.config.keep
        )
        stored.copy_(centroids.detach())
        return centroids

    def _source_to_centroids(self, source: Tensor, centroids: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of telling the nearest centroid, the paper's soft Fisher criterion."""
        similarities = -squared_distances(source, centroids)
        if self.config.softmax_twice:
            similarities = similarities.softmax(dim=1)
        return F.cross_entropy(similarities, labels)

    def _order(self, domain: str, centroids: Tensor) -> dict[str, Tensor]:
        """Classification of a domain's centroids, by the classifier and among each other."""
        classes = torch.arange(len(centroids), device=centroids.device)
        logits = self.classifier(centroids) / self.config.temperature
        pairs = -squared_distances(centroids, centroids) / self.config.temperature
        return {
            f"{domain}_centroid_classes": F.cross_entropy(logits, classes),
            f"{domain}_centroid_pairs": F.cross_entropy(pairs, classes),
        }

    def predict(self, images: Tensor) -> Prediction:
        """See :class:`Method`."""
        (features,) = self.networks(images)
        return Prediction(self.classifier(features), features)
