"""Domain-adversarial training."""

from typing import final

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from trainables.data.batch import Batch
from trainables.methods.base import Method, MethodConfig
from trainables.nn.losses import ramp_up
from trainables.nn.networks import Backbone, Networks, Prediction, reverse_gradient
from trainables.nn.optimization import MakeOptimizer
from trainables.runtime.distributed import Runtime


def domain_loss(source_logits: Tensor, target_logits: Tensor) -> Tensor:
    """Return the cross entropy of the domain classifier, source 0 and target 1.

    The two domains' means are added, as in the release of Tang & Jia; Ganin et al. average over
    both domains.

    Args:
        source_logits: Domain logits of source samples, shape ``(B, 2)``.
        target_logits: Domain logits of target samples, shape ``(B, 2)``.
    """
    source = torch.zeros(len(source_logits), dtype=torch.int64, device=source_logits.device)
    target = torch.ones(len(target_logits), dtype=torch.int64, device=target_logits.device)
    return F.cross_entropy(source_logits, source) + F.cross_entropy(target_logits, target)


@final
class DANN(Method):
    """Domain-adversarial neural network (Ganin et al., JMLR 2016, arXiv:1505.07818).

    Minimises ``CE(s) + w·(CE_d(s → 0) + CE_d(t → 1))``, with the domain classifier behind a
    gradient reversal of strength λ. The domain classifier is one linear layer, as in the release
    of Tang & Jia; the original has three.
    """

    class Config(MethodConfig):
        """The defaults are those of the paper."""

        domain_weight: NonNegativeFloat = 1.0
        """Weight w of the domain loss, without the ramp λ of the gradient reversal."""
        ramp_sharpness: PositiveFloat = 10.0
        """Steepness gamma of the ramp ``λ = 2 / (1 + exp(-gamma·p)) - 1``, p being the completed
        fraction of training."""

    supports_accumulation = True
    config: Config

    def __init__(
        self,
        config: MethodConfig,
        backbone: Backbone,
        num_classes: int,
        make_optimizer: MakeOptimizer,
        runtime: Runtime,
    ) -> None:
        assert isinstance(config, DANN.Config)
        self.config = config
        self.classifier = nn.Linear(backbone.feature_dim, num_classes)
        self.discriminator = nn.Linear(backbone.feature_dim, 2)
        self.networks = Networks(
            backbone,
            classifier=self.classifier,
            discriminator=self.discriminator,
        ).to(runtime.device)
        self.embed = runtime.wrap(self.networks)
        self.optimizer = make_optimizer(
            backbone=backbone.parameters(),
            heads=[*self.classifier.parameters(), *self.discriminator.parameters()],
        )
        self.optimizers = {"all": self.optimizer}
        self.output_layers = [self.classifier]

    @override
    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        source, target = self.embed(batch.source_images, batch.target_images)
        classification = F.cross_entropy(self.classifier(source), batch.source_labels)
        strength = ramp_up(progress, self.config.ramp_sharpness)
        domain = domain_loss(
            self._discriminate(source, strength), self._discriminate(target, strength)
        )

        self.optimizer.zero_grad()
        (classification + self.config.domain_weight * domain).backward()
        self.optimizer.step()
        return {"classification": classification.detach(), "domain": domain.detach()}

    def _discriminate(self, features: Tensor, strength: float) -> Tensor:
        logits: Tensor = self.discriminator(reverse_gradient(features, strength))
        return logits

    @override
    def predict(self, images: Tensor) -> Prediction:
        (features,) = self.networks(images)
        return Prediction(self.classifier(features), features)
