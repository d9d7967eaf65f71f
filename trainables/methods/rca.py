"""Regularized conditional alignment."""

from collections.abc import Callable
from typing import final

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from trainables.configuration.schema import BaseConfig
from trainables.data.batch import Batch
from trainables.methods.base import Method, MethodConfig
from trainables.nn.losses import class_imbalance, entropy, kl_divergence, ramp_up
from trainables.nn.networks import Backbone, Networks, Prediction, frozen, running_averages_kept
from trainables.nn.optimization import MakeOptimizer
from trainables.runtime.distributed import Runtime

Classify = Callable[[Tensor], Tensor]


class VirtualAdversarialConfig(BaseConfig):
    """Virtual adversarial training (VAT); the defaults are those of the release."""

    weight: NonNegativeFloat = 1.0
    """Weight of the VAT loss, for heads and features alike; it is not ramped."""
    epsilon: PositiveFloat = 0.1
    """Euclidean norm of an image's perturbation, in normalised pixel values."""
    xi: PositiveFloat = 1e-6
    """Euclidean norm of the step that finds the adversarial direction. In float32 the default is
    lost in rounding, and the direction is close to random; 0.01 finds it."""
    num_power_steps: PositiveInt = 1
    """Power iterations that find the direction."""


def joint_loss(
    source_logits: Tensor, source_labels: Tensor, target_logits: Tensor, target_labels: Tensor
) -> Tensor:
    """Return the cross entropy over pairs of domain and class, summed over the two domains.

    Cicek & Soatto, ICCV 2019, arXiv:1905.10885.

    Args:
        source_logits: Joint classifier's logits of source samples, shape ``(B, 2K)``: the K
            classes of the source, then those of the target.
        source_labels: Joint labels of source samples, int64 in ``[0, 2K)``, shape ``(B,)``.
        target_logits: Joint classifier's logits of target samples, shape ``(B, 2K)``.
        target_labels: Joint labels of target samples, int64 in ``[0, 2K)``, shape ``(B,)``.
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
    """Return the perturbation of norm ``epsilon`` that changes the predictions most.

    Miyato et al., TPAMI 2018, arXiv:1704.03976.

    Args:
        classify: Differentiable function from images to logits.
        images: Normalised images, shape ``(B, 3, H, W)``.
        logits: Predictions for the unperturbed images, shape ``(B, K)``.
        noise: Initial directions, shape ``(B, 3, H, W)``.
        config: Norms and number of power iterations.

    Returns:
        Perturbations without gradient, shape ``(B, 3, H, W)``.
    """
    direction = noise
    for _ in range(config.num_power_steps):
        step = (config.xi * _unit_length(direction)).requires_grad_()
        divergence = kl_divergence(logits.detach(), classify(images + step))
        (direction,) = torch.autograd.grad(divergence, step)
    return config.epsilon * _unit_length(direction)


def _unit_length(directions: Tensor) -> Tensor:
    """Scale each image's direction ``(3, H, W)`` to norm 1, without dividing by zero."""
    flat = directions.flatten(start_dim=1)
    flat = flat / (1e-12 + flat.abs().amax(dim=1, keepdim=True))
    return (flat / (1e-6 + flat.square().sum(dim=1, keepdim=True)).sqrt()).view_as(directions)


@final
class RCA(Method):
    """Regularized conditional alignment (Cicek & Soatto, ICCV 2019, arXiv:1905.10885).

    Heads minimise ``CE(s1, y) + λ·(CE(s2, y) + CE(t2, ŷ + K)) + b·bal(t1)`` and features
    ``CE(s1, y) + λ·(CE(s2, y + K) + CE(t2, ŷ) + H(t1))``, where 1 marks the outputs of the K-way
    classifier, 2 those of the joint 2K-way classifier, and ŷ the classes predicted on the target.

    Heads see detached features, features see frozen heads, and one backward pass serves both. The
    gradients equal those of the release of Tang & Jia, with several workers too.
    """

    class Config(MethodConfig):
        """The defaults are those of the release."""

        adaptation_weight: NonNegativeFloat = 1.0
        """Factor of the ramp λ, and so the weight of the joint losses and the target's entropy."""
        balance_weight: NonNegativeFloat = 0.1
        """Weight b of the target's class imbalance, for the heads; it is not ramped."""
        entropy_weight: NonNegativeFloat = 1.0
        """Weight, multiplied by λ, of the target's entropy ``H(t1)``, for the features."""
        vat: VirtualAdversarialConfig | None = None
        """Virtual adversarial training on both domains; null: off, ``{}``: with the defaults."""

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

    @override
    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        weight = self.config.adaptation_weight * ramp_up(progress)
        labels, num_classes = batch.source_labels, self.num_classes
        source, target = self.embed(batch.source_images, batch.target_images)

        # The heads learn to separate the domains class by class, …
        source_logits = self.classifier(source.detach())
        target_logits = self.classifier(target.detach())
        guesses = target_logits.argmax(dim=1)
        classification = F.cross_entropy(source_logits, labels)
        telling = joint_loss(
            self.joint(source.detach()), labels, self.joint(target.detach()), guesses + num_classes
        )
        imbalance = class_imbalance(self.all_gather(target_logits.softmax(dim=1)))
        heads = classification + weight * telling + self.config.balance_weight * imbalance

        # … and the features to make the heads confuse them.
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
        """Return the VAT losses: how much perturbations change the predictions."""
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

    # These bypass the distributed wrapper, which prepares one backward pass per step only.

    def _through_heads(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.networks.backbone(images)
        logits: Tensor = self.classifier(features)
        return logits

    def _through_features(self, images: Tensor) -> Tensor:
        return frozen(self.classifier)(self.networks.backbone(images))

    @override
    def predict(self, images: Tensor) -> Prediction:
        (features,) = self.networks(images)
        return Prediction(self.classifier(features), features)
