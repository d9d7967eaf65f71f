"""Structurally regularized deep clustering."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

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
    """Return ``p / sqrt(sum_b p)``, normalised over classes: frequent classes count less.

    Tang et al., CVPR 2020, arXiv:2003.08607.

    Args:
        probabilities: Class probabilities p, shape ``(B, K)``.
        frequencies: Sums of the probabilities over the *global* batch, shape ``(K,)``.
    """
    tiny = torch.finfo(frequencies.dtype).tiny  # an unpredicted class gives 0, not 0/0
    shares = probabilities / frequencies.clamp(min=tiny).sqrt()
    return shares / shares.sum(dim=1, keepdim=True)


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted cross entropy, divided by the number of samples, not their weight.

    Args:
        logits: Logits, shape ``(B, K)``.
        labels: Classes, int64, shape ``(B,)``.
        weights: Weights of the samples, shape ``(B,)``.
    """
    return (weights * F.cross_entropy(logits, labels, reduction="none")).mean()


class ClusterMemory(nn.Module):
    """Result of the epoch's clustering; part of every checkpoint.

    Buffers take the sizes of the domains, or of the checkpoint that is loaded.
    """

    target_labels: Tensor
    """Cluster label of each target training image, int64, shape ``(N_t,)``."""
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

    @override
    def get_extra_state(self) -> Tensor:
        """Return the epoch; it is no buffer because reading one waits for the accelerator."""
        return torch.tensor(self.epoch)

    @override
    def set_extra_state(self, state: Tensor) -> None:
        self.epoch = int(state)


def _resize_buffers(module: nn.Module, state: Mapping[str, Any], prefix: str, *_: object) -> None:
    for name, buffer in list(module.named_buffers()):
        if prefix + name in state:
            setattr(module, name, buffer.new_empty(state[prefix + name].shape))


@dataclass(frozen=True)
class _Domain:
    """The networks' outputs on the whole target at the start of an epoch."""

    levels: tuple[Tensor, Tensor]
    """Features ``(N, D)`` and bottleneck features ``(N, d)``."""
    logits: Tensor
    """Logits of the classifier, shape ``(N, K)``."""


@final
class SRDC(Method):
    """Structurally regularized deep clustering (Tang et al., CVPR 2020, arXiv:2003.08607).

    Minimises ``CE(s) + w·(ΣCE(sim_s) + T(p_t) + ΣT(sim_t))``. The sums run over two feature
    levels, ``sim`` are class probabilities by Student's t similarity to learnable centres, and T
    is the cross entropy with ``(1 - β)·cluster label + β·auxiliary distribution``. The weight w is
    1 in the first epoch and the ramp λ afterwards.

    As in the release of Tang & Jia, ``sim`` is the softmax of the kernel's values, not the values
    divided by their sum (as in Xie et al., arXiv:1511.06335).
    """

    class Config(MethodConfig):
        """The defaults are those of the release."""

        adaptation_weight: NonNegativeFloat = 1.0
        """Factor of w, and so the weight of all terms but the source's classification."""
        bottleneck_dim: PositiveInt | None = None
        """Width of the layer between backbone and classifier; null: a quarter of the backbone's
        feature dimension."""
        alpha: PositiveFloat = 1.0
        """Degrees of freedom α of Student's t kernel."""
        beta: float = Field(1.0, ge=0, le=1)
        """Share β of the auxiliary distribution in the target's soft labels; the cluster label has
        the rest. In the first epoch β is 0."""
        clustering: Literal["kmeans", "spherical_kmeans", "kernel_kmeans"] = "kmeans"
        """Algorithm that clusters target features at the start of each epoch; the time of
        ``kernel_kmeans`` grows with the square of the number of target images."""
        num_cluster_iterations: PositiveInt = 5
        """Iterations of the clustering; the release's runs use 2."""
        source_selection: Literal["none", "soft", "soft_mixed", "hard"] = "none"
        """Weights of source images from the second epoch on. ``none``: 1; ``soft``: closeness v to
        the target's centre of their class; ``soft_mixed``: ``λ·v + 1 - λ``; ``hard``: 1 where v
        reaches a threshold, else 0."""
        consistency_weight: NonNegativeFloat = 0.0
        """Weight, multiplied by w, of the KL divergence between predictions for target images and
        for second, stronger augmentations of them. 0 leaves it out; the release's option is 1."""
        detach_auxiliary: bool = False
        """Treat the auxiliary distribution as a constant within a step, as in the paper; the
        release lets gradients flow through it."""

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

    @override
    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Take a step; :meth:`begin_epoch` must have been called before the first one."""
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
        """Return logits and the similarities to the centres of both levels, each ``(B, K)``."""
        levels = (features, self.bottleneck(features))
        return [self.classifier(levels[1])] + [
            student_similarity(level, centres, self.config.alpha)
            for level, centres in zip(levels, self.centres, strict=True)
        ]

    def _clustering_loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return T, the cross entropy of target predictions with soft labels."""
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
        """Return weights of the batch's source images, shape ``(B,)``."""
        if len(self.memory.source_weights) == 0:
            return batch.source_images.new_ones(len(batch.source_labels))
        weights = self.memory.source_weights[batch.source_indices]
        if self.config.source_selection == "soft_mixed":
            return ramp * weights + (1 - ramp)
        return weights

    @override
    def predict(self, images: Tensor) -> Prediction:
        (features,) = self.networks(images)
        return Prediction(self.classifier(self.bottleneck(features)), features)

    # The start of an epoch

    @override
    def begin_epoch(self, views: EpochViews, epoch: int) -> None:
        """Cluster the target, re-initialise the centres and weight the source.

        Both domains are visited in the order of their training sets, to which the indices of a
        batch refer.
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
        # BatchNorm's running averages differ between workers, so their clusters may: share one's.
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
        """Return class means of the source on both levels, ``(K, D)`` and ``(K, d)``."""
        sums = [torch.zeros_like(centres) for centres in self.centres]
        counts = sums[0].new_zeros(self.num_classes)
        for images, labels in views.source():
            for total, level in zip(sums, self._levels(images), strict=True):
                added, present = class_sums(level, labels, self.num_classes)
                total += added
            counts += present
        return [total / counts.clamp(min=1)[:, None] for total in sums]

    def _cluster(self, features: Tensor, logits: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
        """Return labels ``(N,)`` and centres ``(K, D)`` of one feature level."""
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
        """Return weights of the whole source, shape ``(N,)``; empty where all are 1."""
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
