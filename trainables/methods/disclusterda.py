"""Distilled discriminative clustering."""

from typing import final

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from trainables.data.batch import Batch
from trainables.methods.base import Method, MethodConfig, second_views
from trainables.nn.clustering import class_sums
from trainables.nn.losses import class_imbalance, kl_divergence, ramp_up, squared_distances
from trainables.nn.networks import Backbone, Networks, Prediction
from trainables.nn.optimization import MakeOptimizer
from trainables.runtime.distributed import Runtime


def filtered_entropy(logits: Tensor) -> Tensor:
    """Return the mean of ``H·exp(-H)``, an entropy that gives uncertain samples less weight.

    This is the adaptive filtering of Tang et al., Pattern Recognition 2022, arXiv:2302.11984. The
    gradient flows through the weight ``exp(-H)`` too, as in the release.

    Args:
        logits: Logits, shape ``(B, K)``.
    """
    entropies = -(F.softmax(logits, dim=1) * F.log_softmax(logits, dim=1)).sum(dim=1)
    return (entropies * (-entropies).exp()).mean()


def moved_centroids(previous: Tensor, features: Tensor, labels: Tensor, keep: float) -> Tensor:
    """Update moving averages of class centroids; the gradient flows through the batch mean.

    A class's first batch mean replaces its zero vector; a class absent from the batch keeps its
    centroid.

    Args:
        previous: Centroids before the batch, without gradient, shape ``(K, D)``.
        features: Features of the *global* batch, shape ``(B, D)``.
        labels: Classes of the global batch, int64, shape ``(B,)``.
        keep: Weight of the previous centroid, in ``[0, 1)``.

    Returns:
        Centroids after the batch, shape ``(K, D)``.
    """
    sums, counts = class_sums(features, labels, len(previous))
    known = previous.ne(0).any(dim=1).to(features.dtype)
    shares = torch.where(counts == 0, 1.0, keep * known)[:, None]
    return shares * previous + (1 - shares) * sums / counts.clamp(min=1)[:, None]


@final
class DisClusterDA(Method):
    """Distilled discriminative clustering (Tang et al., PR 2022, arXiv:2302.11984).

    Minimises ``CE(s) + λ·(A(p_t) + CE(q_s, y) + A(q_t) + L_s + L_t) + w·bal(t)``. Here p are class
    probabilities, ``q = softmax(-d)`` with squared distances d to the class centroids c of the
    sample's domain, ``A(p)`` is the mean of ``H(p)·exp(-H(p))``, each domain has
    ``L = CE(fc(c)/T) + CE(-d(c, c)/T)``, and bal is the class imbalance. Centroids are moving
    averages.
    """

    class Config(MethodConfig):
        """The defaults are those of the release."""

        adaptation_weight: NonNegativeFloat = 1.0
        """Factor of the ramp λ, and so the weight of all terms but classification and balance."""
        balance_weight: NonNegativeFloat = 0.01
        """Weight w of the target's class imbalance; it is not ramped."""
        consistency_weight: NonNegativeFloat = 0.0
        """Weight, multiplied by λ, of the KL divergence between predictions for target images and
        for second, stronger augmentations of them. 0 leaves it out; the release's option is 1."""
        keep: float = Field(0.7, ge=0, lt=1)
        """Weight of the previous centroid in the moving average; the batch mean has the rest."""
        temperature: PositiveFloat = 2.0
        """Temperature T of the centroids' logits and of the distances between centroids."""
        softmax_twice: bool = True
        """Take the probabilities ``softmax(-d)`` as the logits of ``CE(q_s, y)``, as the release
        does; ``false``: take the negative distances."""

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

    @override
    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
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
        """Update a domain's centroids from the global batch; store them without gradient."""
        stored = self.networks.get_buffer(name)
        centroids = moved_centroids(
            stored.clone(), self.all_gather(features), self.all_gather(labels), self.config.keep
        )
        stored.copy_(centroids.detach())
        return centroids

    def _source_to_centroids(self, source: Tensor, centroids: Tensor, labels: Tensor) -> Tensor:
        """Return the cross entropy over source centroids, the paper's soft Fisher criterion."""
        similarities = -squared_distances(source, centroids)
        if self.config.softmax_twice:
            similarities = similarities.softmax(dim=1)
        return F.cross_entropy(similarities, labels)

    def _order(self, domain: str, centroids: Tensor) -> dict[str, Tensor]:
        """Return the losses of a domain's centroids: by classifier and by mutual distance."""
        classes = torch.arange(len(centroids), device=centroids.device)
        logits = self.classifier(centroids) / self.config.temperature
        pairs = -squared_distances(centroids, centroids) / self.config.temperature
        return {
            f"{domain}_centroid_classes": F.cross_entropy(logits, classes),
            f"{domain}_centroid_pairs": F.cross_entropy(pairs, classes),
        }

    @override
    def predict(self, images: Tensor) -> Prediction:
        (features,) = self.networks(images)
        return Prediction(self.classifier(features), features)
