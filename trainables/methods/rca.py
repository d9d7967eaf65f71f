"""Regularized conditional alignment."""

from collections.abc import Callable
from typing import final

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.configuration.schema import BaseConfig
from trainables.data.batch import Batch
from trainables.methods.base import Method, MethodConfig
from trainables.nn.losses import class_imbalance, entropy, kl_divergence, ramp_up
from trainables.nn.networks import Backbone, Networks, Prediction, frozen, running_averages_kept
from trainables.nn.optimization import MakeOptimizer
from trainables.runtime.distributed import Runtime

Classify = Callable[[Tensor], Tensor]


class VirtualAdversarialConfig(BaseConfig):
    """Virtual adversarial training; the defaults are the release's."""

    weight: NonNegativeFloat = 1.0
    """Multiplies the loss, for the heads as for the features; it has no ramp."""
    epsilon: PositiveFloat = 0.1
    """Length of the perturbation of an image, in units of normalised pixels."""
    xi: PositiveFloat = 1e-6
    """Length of the step by which the worst direction is found. In float32 the default drowns in
    rounding and the direction is close to random; 0.01 finds it."""
    num_power_steps: PositiveInt = 1
    """Repetitions of that search."""


def joint_loss(
    source_logits: Tensor, source_labels: Tensor, target_logits: Tensor, target_labels: Tensor
) -> Tensor:
    """Cross entropy over pairs of domain and class, summed over the two domains.

    Cicek & Soatto, ICCV 2019, arXiv:1905.10885.

    Args:
        source_logits: Of the joint classifier, shape ``(B, 2K)``: classes of the source, then
            of the target.
        source_labels: int64 in ``[0, 2K)``, shape ``(B,)``.
        target_logits: Shape ``(B, 2K)``.
        target_labels: int64 in ``[0, 2K)``, shape ``(B,)``.
    """
    return F.cross_entropy(source_logits, source_labels) + F.cross_entropy(
        target_logits, target_labels
    )


def adversarial_perturbation(
    classify: Classify,
    images: Tensor,
    logits: Tensor,
    noise: Tensor,
    config: VirtualAdversarialConfig,
) -> Tensor:
    """The perturbation of given length that changes the predictions most.

    Miyato et al., TPAMI 2018, arXiv:1704.03976.

    Args:
        classify: Images to logits, differentiable.
        images: Shape ``(B, 3, H, W)``.
        logits: Predictions for the unperturbed images, shape ``(B, K)``.
        noise: Where the search starts, shape of the images.
        config: Lengths and repetitions.

    Returns:
        A constant of the images' shape.
    """
    direction = noise
    for _ in range(config.num_power_steps):
        step = (config.xi * _unit_length(direction)).requires_grad_()
        divergence = kl_divergence(logits.detach(), classify(images + step))
        (direction,) = torch.autograd.grad(divergence, step)
    return config.epsilon * _unit_length(direction)


def _unit_length(directions: Tensor) -> Tensor:
    """Scales each image's ``(3, H, W)`` to norm 1; the scale of tiny ones is kept off 0."""
    flat = directions.flatten(start_dim=1)
    flat = flat / (1e-12 + flat.abs().amax(dim=1, keepdim=True))
    return (flat / (1e-6 + flat.square().sum(dim=1, keepdim=True)).sqrt()).view_as(directions)


@final
class RCA(Method):
    """Regularized conditional alignment (Cicek & Soatto, ICCV 2019, arXiv:1905.10885).

    Heads and features minimise different losses in one step. The heads see features without
    gradient, the features see heads as fixed functions, and one backward pass serves both: the
    gradients are those of the release of Tang & Jia, also with several workers.
    """

    class Config(MethodConfig):
        """The defaults are the release's."""

        adaptation_weight: NonNegativeFloat = 1.0
        """Multiplies the ramp, and so the joint losses and the target's entropy."""
        balance_weight: NonNegativeFloat = 0.1
        """Multiplies the target's class imbalance, for the heads; it has no ramp."""
        entropy_weight: NonNegativeFloat = 1.0
        """Multiplies the target's entropy, for the features, beside the ramp."""
        vat: VirtualAdversarialConfig | None = None
        """Virtual adversarial training on both domains; ``{}`` turns it on."""

    config: Config

    def __init__(
        self,
        config: MethodConfig,
        backbone: Backbone,
        num_classes: int,
        make_optimizer: MakeOptimizer,
        runtime: Runtime,
    ) -> None:
        assert isinstance(config, RCA.Config)
        self.config = config
        self.num_classes = num_classes
        self.all_gather = runtime.all_gather
        self.draw_noise: Callable[[Tensor], Tensor] = torch.randn_like
        self.classifier = nn.Linear(backbone.feature_dim, num_classes)
        self.joint = nn.Linear(backbone.feature_dim, 2 * num_classes)
        self.networks = Networks(backbone, classifier=self.classifier, joint=self.joint).to(
            runtime.device
        )
        self.embed = runtime.wrap(self.networks)
        self.optimizer = make_optimizer(
            backbone=backbone.parameters(),
            heads=[*self.classifier.parameters(), *self.joint.parameters()],
        )
        self.optimizers = {"all": self.optimizer}
        self.output_layers = [self.classifier]

    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """See :class:`Method`."""
        weight = self.config.adaptation_weight * ramp_up(progress)
        labels, num_classes = batch.source_labels, self.num_classes
        source, target = self.embed(batch.source_images, batch.target_images)

        # The heads learn to tell the domains apart, class by class, …
        source_logits = self.classifier(source.detach())
        target_logits = self.classifier(target.detach())
        guesses = target_logits.argmax(dim=1)
        classification = F.cross_entropy(source_logits, labels)
        telling = joint_loss(
            self.joint(source.detach()), labels, self.joint(target.detach()), guesses + num_classes
        )
        imbalance = class_imbalance(self.all_gather(target_logits.softmax(dim=1)))
        heads = classification + weight * telling + self.config.balance_weight * imbalance

        # … and the features to have each domain taken for the other.
        classify, join = frozen(self.classifier), frozen(self.joint)
        confusing = joint_loss(join(source), labels + num_classes, join(target), guesses)
        target_entropy = entropy(classify(target))
        features = F.cross_entropy(classify(source), labels) + weight * (
            confusing + self.config.entropy_weight * target_entropy
        )

        total = heads + features
        smoothness: dict[str, Tensor] = {}
        if self.config.vat is not None:
            smoothness = self._smoothness(self.config.vat, batch, source_logits, target_logits)
            total = total + self.config.vat.weight * sum(smoothness.values())

        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        terms = {
            "classification": classification,
            "joint_heads": telling,
            "joint_features": confusing,
            "imbalance": imbalance,
            "target_entropy": target_entropy,
            **smoothness,
        }
        return {name: term.detach() for name, term in terms.items()}

    def _smoothness(
        self,
        vat: VirtualAdversarialConfig,
        batch: Batch,
        source_logits: Tensor,
        target_logits: Tensor,
    ) -> dict[str, Tensor]:
        """How much perturbed images change the predictions: the heads' part, the features'."""
        domains = ((batch.source_images, source_logits), (batch.target_images, target_logits))
        losses = {}
        with running_averages_kept(self.networks.backbone):
            for name, route in (
                ("heads", self._through_heads),
                ("features", self._through_features),
            ):
                losses[f"smoothness_{name}"] = sum(
                    (self._sensitivity(route, images, logits, vat) for images, logits in domains),
                    start=source_logits.new_zeros(()),
                )
        return losses

    def _sensitivity(
        self, route: Classify, images: Tensor, logits: Tensor, vat: VirtualAdversarialConfig
    ) -> Tensor:
        perturbation = adversarial_perturbation(
            self._through_features, images, logits, self.draw_noise(images), vat
        )
        return kl_divergence(logits.detach(), route(images + perturbation))

    # These call the backbone beside its wrapper, which prepares the backward pass only once.

    def _through_heads(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.networks.backbone(images)
        logits: Tensor = self.classifier(features)
        return logits

    def _through_features(self, images: Tensor) -> Tensor:
        return frozen(self.classifier)(self.networks.backbone(images))

    def predict(self, images: Tensor) -> Prediction:
        """See :class:`Method`."""
        (features,) = self.networks(images)
        return Prediction(self.classifier(features), features)
