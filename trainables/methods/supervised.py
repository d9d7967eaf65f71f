"""Training on the labelled source alone."""

from typing import final

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from trainables.data.batch import Batch
from trainables.methods.base import Method, MethodConfig
from trainables.nn.networks import Backbone, Networks, Prediction
from trainables.nn.optimization import MakeOptimizer
from trainables.runtime.distributed import Runtime

NO_ADAPTATION = "no_adaptation"
"""Name of :class:`Supervised` among adaptation methods, which are compared with it."""


@final
class Supervised(Method):
    """Supervised training on the source by ``CE(s)``; the paper's baseline No Adaptation."""

    uses_target = False
    supports_accumulation = True

    def __init__(
        self,
        config: MethodConfig,
        backbone: Backbone,
        num_classes: int,
        make_optimizer: MakeOptimizer,
        runtime: Runtime,
    ) -> None:
        self.classifier = nn.Linear(backbone.feature_dim, num_classes)
        self.networks = Networks(backbone, classifier=self.classifier).to(runtime.device)
        self.embed = runtime.wrap(self.networks)
        self.optimizer = make_optimizer(
            backbone=backbone.parameters(), heads=self.classifier.parameters()
        )
        self.optimizers = {"all": self.optimizer}
        self.output_layers = [self.classifier]

    @override
    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Take a step on source images and labels alone."""
        (source,) = self.embed(batch.source_images)
        classification = F.cross_entropy(self.classifier(source), batch.source_labels)

        self.optimizer.zero_grad()
        classification.backward()
        self.optimizer.step()
        return {"classification": classification.detach()}

    @override
    def predict(self, images: Tensor) -> Prediction:
        (features,) = self.networks(images)
        return Prediction(self.classifier(features), features)
