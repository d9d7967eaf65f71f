"""Maximum classifier discrepancy."""

from collections.abc import Sequence
from typing import final

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from trainables.data.batch import Batch
from trainables.methods.base import Method, MethodConfig
from trainables.nn.losses import class_imbalance
from trainables.nn.networks import Backbone, Networks, Prediction, frozen
from trainables.nn.optimization import MakeOptimizer
from trainables.runtime.distributed import Runtime


def classifier_discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean absolute difference of two classifiers' class probabilities.

    Saito et al., CVPR 2018, arXiv:1712.02560.

    Args:
        first: Logits of one classifier, shape ``(B, K)``.
        second: Logits of the other classifier on the same images, shape ``(B, K)``.

    Returns:
        Scalar in ``[0, 2/K]``. It is a mean over classes as well as images, so a weight tuned at
        one K does not transfer to another.

    Raises:
        ValueError: The shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"both classifiers need one shape, got {tuple(first.shape)} and {tuple(second.shape)}."
        )
    return (first.softmax(dim=1) - second.softmax(dim=1)).abs().mean()


@final
class MCD(Method):
    """Maximum classifier discrepancy (Saito et al., CVPR 2018, arXiv:1712.02560).

    Step A trains the generator G and the classifiers F1 and F2 by ``ΣCE(s) + b·Σbal(t)``; step B
    trains F1 and F2 by the same less ``w·d(t)``; step C trains G by ``w·d(t)``, several times. The
    discrepancy d is the mean of ``|p1 - p2|``, bal the class imbalance. The class balance and a
    generator optimizer without momentum follow the release of Tang & Jia.
    """

    class Config(MethodConfig):
        """The defaults are those of the release."""

        discrepancy_weight: NonNegativeFloat = 1.0
        """Weight w of the discrepancy in steps B and C. As d is a mean over classes, a good weight
        depends on the number of classes."""
        balance_weight: NonNegativeFloat = 0.01
        """Weight b of each classifier's class imbalance on the target, in steps A and B."""
        num_generator_steps: PositiveInt = 4
        """Repetitions of step C for each batch."""
        hidden_dim: PositiveInt = 1000
        """Width of the two hidden layers of each classifier."""
        dropout: float = Field(0.5, ge=0, lt=1)
        """Dropout rate before each hidden layer."""
        generator_momentum: float = Field(0.0, ge=0, lt=1)
        """SGD momentum, or Adam's beta 1, of the generator's optimizer."""

    config: Config

    def __init__(
        self,
        config: MethodConfig,
        backbone: Backbone,
        num_classes: int,
        make_optimizer: MakeOptimizer,
        runtime: Runtime,
    ) -> None:
        assert isinstance(config, MCD.Config)
        self.config = config
        self.all_gather = runtime.all_gather
        self.heads = nn.ModuleList(
            _classifier(backbone.feature_dim, num_classes, config) for _ in range(2)
        )
        self.networks = Networks(backbone, heads=self.heads).to(runtime.device)
        self.generate = runtime.wrap(Networks(backbone))
        self.classify = runtime.wrap(_Heads(self.heads))
        self.generator_optimizer = make_optimizer(
            backbone=backbone.parameters(), momentum=config.generator_momentum
        )
        self.head_optimizer = make_optimizer(heads=self.heads.parameters())
        self.optimizers = {"generator": self.generator_optimizer, "heads": self.head_optimizer}
        self.output_layers = [_last_layer(head) for head in self.heads]

    @override
    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Take steps A, B and C of the paper."""
        train_all = self._train_all(batch)
        return {**train_all, **self._train_heads(batch), **self._train_generator(batch)}

    def _train_all(self, batch: Batch) -> dict[str, Tensor]:
        """Take step A: train generator and classifiers on the source."""
        source, target = self.generate(batch.source_images, batch.target_images)
        source_logits, target_logits = self.classify(source, target)
        classification = _classification(source_logits, batch.source_labels)
        imbalance = self._imbalance(target_logits)

        self.generator_optimizer.zero_grad()
        self.head_optimizer.zero_grad()
        (classification + self.config.balance_weight * imbalance).backward()
        self.generator_optimizer.step()
        self.head_optimizer.step()
        return {"classification": classification.detach(), "imbalance": imbalance.detach()}

    def _train_heads(self, batch: Batch) -> dict[str, Tensor]:
        """Take step B: train the classifiers to disagree on the target, features fixed."""
        with torch.no_grad():
            source, target = self.generate(batch.source_images, batch.target_images)
        source_logits, target_logits = self.classify(source, target)
        classification = _classification(source_logits, batch.source_labels)
        imbalance = self._imbalance(target_logits)
        discrepancy = classifier_discrepancy(*target_logits)
        total = (
            classification
            + self.config.balance_weight * imbalance
            - self.config.discrepancy_weight * discrepancy
        )

        self.head_optimizer.zero_grad()
        total.backward()
        self.head_optimizer.step()
        return {
            "head_classification": classification.detach(),
            "head_imbalance": imbalance.detach(),
            "head_discrepancy": discrepancy.detach(),
        }

    def _train_generator(self, batch: Batch) -> dict[str, Tensor]:
        """Take step C: train the generator so that the classifiers agree on the target."""
        for _ in range(self.config.num_generator_steps):
            (target,) = self.generate(batch.target_images)
            discrepancy = classifier_discrepancy(*(frozen(head)(target) for head in self.heads))

            self.generator_optimizer.zero_grad()
            (self.config.discrepancy_weight * discrepancy).backward()
            self.generator_optimizer.step()
        return {"discrepancy": discrepancy.detach()}

    def _imbalance(self, logits: Sequence[Tensor]) -> Tensor:
        return sum(
            (class_imbalance(self.all_gather(each.softmax(dim=1))) for each in logits),
            start=logits[0].new_zeros(()),
        )

    @override
    def predict(self, images: Tensor) -> Prediction:
        """Classify by the mean of both heads' probabilities; report the heads as well."""
        (features,) = self.networks(images)
        first, second = (head(features) for head in self.heads)
        ensemble = (first.softmax(dim=1) + second.softmax(dim=1)).div(2).log()
        return Prediction(ensemble, features, {"head_1": first, "head_2": second})


class _Heads(nn.Module):
    """Both classifiers as one module: a pair of logits for each batch of features."""

    def __init__(self, heads: nn.ModuleList) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, *batches: Tensor) -> list[list[Tensor]]:
        return [[head(features) for head in self.heads] for features in batches]


def _classification(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    return sum((F.cross_entropy(each, labels) for each in logits), start=logits[0].new_zeros(()))


def _classifier(feature_dim: int, num_classes: int, config: MCD.Config) -> nn.Sequential:
    width = config.hidden_dim
    head = nn.Sequential(
        nn.Dropout(config.dropout),
        nn.Linear(feature_dim, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(width, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, num_classes),
    )
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.01)
            nn.init.normal_(layer.bias, 0.0, 0.01)
        elif isinstance(layer, nn.BatchNorm1d):
            nn.init.normal_(layer.weight, 1.0, 0.01)
    return head


def _last_layer(head: nn.Module) -> nn.Linear:
    layers = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    return layers[-1]
