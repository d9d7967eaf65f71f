"""Structurally regularized deep clustering."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.data.batch import Batch, EpochViews
from trainables.methods.base import Method, MethodConfig, second_views
from trainables.nn.clustering import (
    class_sums,
    closeness,
    cluster_centres,
    kernel_kmeans,
    kmeans,
    select_confident,
    selection_threshold,
    spherical_kmeans,
    student_similarity,
    uncertainty_discounts,
)
from trainables.nn.losses import kl_divergence, ramp_up
from trainables.nn.networks import Backbone, Networks, Prediction
from trainables.nn.optimization import MakeOptimizer
from trainables.runtime.distributed import Runtime


def auxiliary_distribution(probabilities: Tensor, frequencies: Tensor) -> Tensor:
    """What predictions are trained towards: themselves, less of what is predicted often.

    ``p / sqrt(sum_b p)``, normalised over classes (Tang et al., CVPR 2020, arXiv:2003.08607).

    Args:
        probabilities: Shape ``(B, K)``.
        frequencies: Sums of the probabilities over the *global* batch, shape ``(K,)``.
    """
    tiny = torch.finfo(frequencies.dtype).tiny  # a class that nobody predicts: 0, and not 0/0
    shares = probabilities / frequencies.clamp(min=tiny).sqrt()
    return shares / shares.sum(dim=1, keepdim=True)


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy of weighted samples, divided by their number and not by their weight.

    Args:
        logits: Shape ``(B, K)``.
        labels: int64, shape ``(B,)``.
        weights: Shape ``(B,)``.
    """
    return (weights * F.cross_entropy(logits, labels, reduction="none")).mean()


class ClusterMemory(nn.Module):
    """What an epoch's clustering left behind; part of every checkpoint.

    Sizes follow the domains, also when a checkpoint is loaded.
    """

    target_labels: Tensor
    """Cluster of each target training image, int64, shape ``(N_t,)``."""
    source_weights: Tensor
    """Weight of each source training image, shape ``(N_s,)``; empty while all weigh 1."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch = 0
        self.register_buffer("target_labels", torch.empty(0, dtype=torch.int64))
        self.register_buffer("source_weights", torch.empty(0))
        self.register_load_state_dict_pre_hook(  # type: ignore[no-untyped-call]
            _resize_buffers
        )

    def get_extra_state(self) -> Tensor:
        """The epoch; outside the buffers because reading those waits for the accelerator."""
        return torch.tensor(self.epoch)

    def set_extra_state(self, state: Tensor) -> None:
        """See :meth:`get_extra_state`."""
        self.epoch = int(state)


def _resize_buffers(module: nn.Module, state: Mapping[str, Any], prefix: str, *_: object) -> None:
    for name, buffer in list(module.named_buffers()):
        if prefix + name in state:
            setattr(module, name, buffer.new_empty(state[prefix + name].shape))


@dataclass(frozen=True)
class _Domain:
    """The target as the networks see it at the start of an epoch."""

    levels: tuple[Tensor, Tensor]
    """Features ``(N, D)`` and bottleneck features ``(N, d)``."""
    logits: Tensor
    """Shape ``(N, K)``."""


@final
class SRDC(Method):
    """Structurally regularized deep clustering (Tang et al., CVPR 2020, arXiv:2003.08607).

    As in the release of Tang & Jia, class probabilities at the centres are the softmax of the
    kernel's values, and not these divided by their sum (as in Xie et al., arXiv:1511.06335).
    """

    class Config(MethodConfig):
        """The defaults are the release's."""

        adaptation_weight: NonNegativeFloat = 1.0
        """Multiplies the ramp, and so all terms but classification; the ramp is 1 in the first
        epoch."""
        bottleneck_dim: PositiveInt | None = None
        """Width of the layer between features and classifier; a quarter of the features' unless
        given."""
        alpha: PositiveFloat = 1.0
        """Degrees of freedom of Student's t kernel."""
        beta: float = Field(1.0, ge=0, le=1)
        """Share of the auxiliary distribution in what the target is trained towards; the rest is
        the cluster label. 0 in the first epoch."""
        clustering: Literal["kmeans", "spherical_kmeans", "kernel_kmeans"] = "kmeans"
        """How target features are clustered at the start of each epoch; the time of
        ``kernel_kmeans`` grows with the square of the target's size."""
        num_cluster_iterations: PositiveInt = 5
        """Of the clustering; the release's runs use 2."""
        source_selection: Literal["none", "soft", "soft_mixed", "hard"] = "none"
        """Weights of source images after the first epoch. ``soft``: closeness to the target's
        centre of their class; ``soft_mixed``: that, fading in with the ramp from 1; ``hard``: 1
        for the closest, else 0."""
        consistency_weight: NonNegativeFloat = 0.0
        """Multiplies, beside the ramp, the divergence between target images and second views of
        them; the release's option uses 1."""
        detach_auxiliary: bool = False
        """Whether the auxiliary distribution is a constant within a step, as in the paper; the
        release lets the gradient flow through it."""

    config: Config

    def __init__(
        self,
        config: MethodConfig,
        backbone: Backbone,
        num_classes: int,
        make_optimizer: MakeOptimizer,
        runtime: Runtime,
    ) -> None:
        assert isinstance(config, SRDC.Config)
        self.config = config
        self.num_classes = num_classes
        self.needs_target_views = config.consistency_weight > 0
        self.runtime = runtime
        feature_dim = backbone.feature_dim
        width = config.bottleneck_dim or max(feature_dim // 4, 1)
        self.bottleneck = nn.Sequential(
            nn.Linear(feature_dim, width), nn.BatchNorm1d(width), nn.ReLU()
        )
        self.classifier = nn.Linear(width, num_classes)
        self.centres = nn.ParameterList(
            torch.zeros(num_classes, dim) for dim in (feature_dim, width)
        )
        self.memory = ClusterMemory()
        trained = {
            "bottleneck": self.bottleneck,
            "classifier": self.classifier,
            "centres": self.centres,
        }
        self.networks = Networks(backbone, **trained, memory=self.memory).to(runtime.device)
        self.embed = runtime.wrap(Networks(backbone, **trained))
        self.optimizer = make_optimizer(
            backbone=[*backbone.parameters(), *self.centres.parameters()],
            heads=[*self.bottleneck.parameters(), *self.classifier.parameters()],
        )
        self.optimizers = {"all": self.optimizer}
        self.output_layers = [self.classifier]

    # A step

    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """See :class:`Method`; :meth:`begin_epoch` comes before the first step."""
        ramp = ramp_up(progress)
        weight = self.config.adaptation_weight * (1.0 if self.memory.epoch == 0 else ramp)
        target, *views, source = self.embed(
            batch.target_images, *second_views(batch, self.needs_target_views), batch.source_images
        )
        target_outputs = self._outputs(target)
        view_logits = [self.classifier(self.bottleneck(view)) for view in views]
        source_outputs = self._outputs(source)

        assert len(self.memory.target_labels), "begin_epoch comes before the first step"
        labels = self.memory.target_labels[batch.target_indices]
        weights = self._sample_weights(batch, ramp)
        target_losses = [self._clustering_loss(output, labels) for output in target_outputs]
        source_losses = [
            weighted_cross_entropy(output, batch.source_labels, weights)
            for output in source_outputs
        ]
        classification = source_losses[0]
        terms = {
            "source_centres": source_losses[1] + source_losses[2],
            "target_classes": target_losses[0],
            "target_centres": target_losses[1] + target_losses[2],
        }
        adaptation = sum(terms.values(), start=classification.new_zeros(()))
        for logits in view_logits:
            terms["consistency"] = kl_divergence(target_outputs[0], logits)
            adaptation = adaptation + self.config.consistency_weight * terms["consistency"]

        self.optimizer.zero_grad()
        (classification + weight * adaptation).backward()
        self.optimizer.step()
        terms["classification"] = classification
        return {name: term.detach() for name, term in terms.items()}

    def _outputs(self, features: Tensor) -> list[Tensor]:
        """Three times ``(B, K)``: logits, similarities to the centres of either level."""
        levels = (features, self.bottleneck(features))
        return [self.classifier(levels[1])] + [
            student_similarity(level, centres, self.config.alpha)
            for level, centres in zip(levels, self.centres, strict=True)
        ]

    def _clustering_loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of the target's predictions with cluster labels and auxiliary ones."""
        beta = 0.0 if self.memory.epoch == 0 else self.config.beta
        probabilities = outputs.softmax(dim=1)
        frequencies = self.runtime.all_gather(probabilities).sum(dim=0)
        auxiliary = auxiliary_distribution(probabilities, frequencies)
        if self.config.detach_auxiliary:
            auxiliary = auxiliary.detach()
        clusters = F.one_hot(labels, self.num_classes).to(outputs.dtype)
        aim = (1 - beta) * clusters + beta * auxiliary
        return -(aim * outputs.log_softmax(dim=1)).sum(dim=1).mean()

    def _sample_weights(self, batch: Batch, ramp: float) -> Tensor:
        """Weights of the batch's source images, shape ``(B,)``."""
        if len(self.memory.source_weights) == 0:
            return batch.source_images.new_ones(len(batch.source_labels))
        weights = self.memory.source_weights[batch.source_indices]
        if self.config.source_selection == "soft_mixed":
            return ramp * weights + (1 - ramp)
        return weights

    def predict(self, images: Tensor) -> Prediction:
        """See :class:`Method`."""
        (features,) = self.networks(images)
        return Prediction(self.classifier(self.bottleneck(features)), features)

    # The start of an epoch

    def begin_epoch(self, views: EpochViews, epoch: int) -> None:
        """Clusters the target, restarts the centres there and weighs the source anew.

        Images keep the order of the training sets, whose positions a batch's indices are.
        """
        with self.evaluating():
            target = self._describe_target(views)
            initial = (
                self._source_means(views)
                if epoch == 0
                else [
                    cluster_centres(level, target.logits.argmax(dim=1), self.num_classes)
                    for level in target.levels
                ]
            )
            clusters = [
                self._cluster(level, target.logits, centres)
                for level, centres in zip(target.levels, initial, strict=True)
            ]
            labels, centres = clusters[0][0], [found for _, found in clusters]
            weights = self._weigh_source(views, epoch, centres[0], target)
        # Running averages of batch normalisation differ between workers, and so may clusters.
        labels, weights, *centres = (
            shared.to(self.runtime.device)
            for shared in self.runtime.broadcast_object(
                [tensor.cpu() for tensor in (labels, weights, *centres)]
            )
        )

        self.memory.epoch = epoch
        self.memory.target_labels, self.memory.source_weights = labels, weights
        with torch.no_grad():
            for parameter, found in zip(self.centres, centres, strict=True):
                parameter.copy_(found)

    def _levels(self, images: Tensor) -> tuple[Tensor, Tensor]:
        (features,) = self.networks(images)
        return features, self.bottleneck(features)

    def _describe_target(self, views: EpochViews) -> _Domain:
        first, second = (
            torch.cat(parts)
            for parts in zip(*(self._levels(images) for images in views.target()), strict=True)
        )
        return _Domain((first, second), self.classifier(second))

    def _source_means(self, views: EpochViews) -> list[Tensor]:
        """Class means of the labelled source on both levels, ``(K, D)`` and ``(K, d)``."""
        sums = [torch.zeros_like(centres) for centres in self.centres]
        counts = sums[0].new_zeros(self.num_classes)
        for images, labels in views.source():
            for total, level in zip(sums, self._levels(images), strict=True):
                added, present = class_sums(level, labels, self.num_classes)
                total += added
            counts += present
        return [total / counts.clamp(min=1)[:, None] for total in sums]

    def _cluster(self, features: Tensor, logits: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
        """Labels ``(N,)`` and centres ``(K, D)`` of one level."""
        iterations = self.config.num_cluster_iterations
        match self.config.clustering:
            case "kmeans":
                return kmeans(features, centres, iterations)
            case "spherical_kmeans":
                return spherical_kmeans(features, centres, iterations)
            case "kernel_kmeans":
                return kernel_kmeans(features, logits.argmax(dim=1), self.num_classes, iterations)

    def _weigh_source(
        self, views: EpochViews, epoch: int, centres: Tensor, target: _Domain
    ) -> Tensor:
        """Weights of the whole source, shape ``(N,)``; empty where all weigh 1."""
        selection = self.config.source_selection
        if selection == "none" or epoch == 0:
            return centres.new_empty(0)
        parts = [
            (closeness(self._levels(images)[0], labels, centres), labels)
            for images, labels in views.source()
        ]
        weights, labels = (torch.cat(column) for column in zip(*parts, strict=True))
        if selection != "hard":
            return weights
        similarities = torch.cat(
            [
                student_similarity(part, centres, self.config.alpha)
                for part in target.levels[0].split(256)
            ]
        )
        discounts = uncertainty_discounts(
            similarities.softmax(dim=1), target.logits.softmax(dim=1)
        )
        threshold = selection_threshold(epoch)
        return select_confident(weights, labels, threshold, discounts).to(weights.dtype)
