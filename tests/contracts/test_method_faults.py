"""The contract of methods names what is wrong with a broken one."""

import inspect
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.contracts import MethodContract
from trainables.methods import (
    Backbone,
    Batch,
    MakeOptimizer,
    Method,
    MethodConfig,
    Networks,
    Prediction,
    Runtime,
)


class Sound(Method):
    """Cross entropy on the source and a confidence term on the target: nothing is wrong."""

    def __init__(
        self,
        config: MethodConfig,
        backbone: Backbone,
        num_classes: int,
        make_optimizer: MakeOptimizer,
        runtime: Runtime,
    ) -> None:
        self.runtime = runtime
        self.classifier = nn.Linear(backbone.feature_dim, num_classes)
        self.networks = Networks(backbone, classifier=self.classifier)
        self.networks.register_buffer("average", torch.zeros(()))
        self.embed = runtime.wrap(self.networks)
        self.backbone_optimizer = make_optimizer(backbone=backbone.parameters(), heads=[])
        self.head_optimizer = make_optimizer(backbone=[], heads=self.classifier.parameters())
        self.optimizers = {"backbone": self.backbone_optimizer, "head": self.head_optimizer}
        self.output_layers = [self.classifier]

    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        source, target = self.embed(batch.source_images, batch.target_images)
        classification = F.cross_entropy(self.classifier(source), batch.source_labels)
        confidence = self.confidence(self.classifier(target).softmax(dim=1), batch)
        for optimizer in (self.backbone_optimizer, self.head_optimizer):
            optimizer.zero_grad()
        (classification - confidence).backward()
        for optimizer in (self.backbone_optimizer, self.head_optimizer):
            optimizer.step()
        return {"classification": classification.detach(), "confidence": confidence.detach()}

    def confidence(self, probabilities: Tensor, batch: Batch) -> Tensor:
        return probabilities.square().sum(dim=1).mean()

    def predict(self, images: Tensor) -> Prediction:
        (features,) = self.networks(images)
        return Prediction(self.classifier(features), features)


class ForgetsAnOptimizer(Sound):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        del self.optimizers["head"]


class ForgetsAnAverage(Sound):
    average = 0.0

    def confidence(self, probabilities: Tensor, batch: Batch) -> Tensor:
        self.average = 0.5 * self.average + float(probabilities.detach().amax())
        return self.average * super().confidence(probabilities, batch)


class DrawsFromElsewhere(Sound):
    def confidence(self, probabilities: Tensor, batch: Batch) -> Tensor:
        return random.random() * super().confidence(probabilities, batch)


class DividesByZero(Sound):
    def confidence(self, probabilities: Tensor, batch: Batch) -> Tensor:
        present = (batch.source_labels == 1).sum()
        return super().confidence(probabilities, batch) / present


class KeepsTheGraph(Sound):
    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        return {"loss": super().update(batch, progress)["confidence"].requires_grad_()}


class ChangesItsBatch(Sound):
    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        batch.target_images.mul_(0.5)
        return super().update(batch, progress)


class LeavesTheBackbone(Sound):
    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        loss = F.cross_entropy(
            self.classifier(self.networks(batch.source_images)[0].detach()), batch.source_labels
        )
        self.head_optimizer.zero_grad()
        loss.backward()
        self.head_optimizer.step()
        return {"loss": loss.detach()}


class HasAnIdleHead(Sound):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.networks.add_module("idle", nn.Linear(2, 2))


class HidesThatItReadsTargets(Sound):
    uses_target = False


class ReadsViewsUnasked(Sound):
    def confidence(self, probabilities: Tensor, batch: Batch) -> Tensor:
        if batch.target_views is None:
            return super().confidence(probabilities, batch)
        return 0.0 * probabilities.sum()


class DeclaresFalseAccumulation(Sound):
    supports_accumulation = True

    def confidence(self, probabilities: Tensor, batch: Batch) -> Tensor:
        return probabilities.mean(dim=0).square().sum()


class PredictsByTheBatch(Sound):
    def predict(self, images: Tensor) -> Prediction:
        prediction = super().predict(images)
        logits = prediction.logits - prediction.logits.mean(dim=0)
        return Prediction(logits, prediction.features)


class LearnsFromPredictions(Sound):
    def predict(self, images: Tensor) -> Prediction:
        prediction = super().predict(images)
        self.classifier.bias += prediction.logits.mean(dim=0)
        return prediction


class NamesAnotherLayer(Sound):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.output_layers = [nn.Linear(self.classifier.in_features, 3)]


class ScalesItsLogits(Sound):
    def predict(self, images: Tensor) -> Prediction:
        prediction = super().predict(images)
        return Prediction(2 * prediction.logits, prediction.features)


class HasAnUndocumentedSetting(Sound):
    class Config(MethodConfig):
        """Nothing is said of the weight."""

        weight: float = 1.0


class GathersNothing(DeclaresFalseAccumulation):
    """A statistic of each worker's share instead of the global batch's."""

    supports_accumulation = False


class Drifts(Sound):
    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        losses = super().update(batch, progress)
        self.networks.average += self.runtime.rank
        return losses


FAULTS = [
    (ForgetsAnOptimizer, "every_optimizer_is_listed", r"lacks \['head_optimizer'\]"),
    (ForgetsAnOptimizer, "resumes_bit_for_bit", "state after step 1 must take the same steps"),
    (ForgetsAnAverage, "resumes_bit_for_bit", "must be a buffer or parameter of networks"),
    (DrawsFromElsewhere, "equal_seeds_give_equal_steps", "torch's global generator alone"),
    (
        DividesByZero,
        "losses_are_finite_when_a_batch_lacks_classes",
        "Loss 'confidence' must be finite, got inf",
    ),
    (
        KeepsTheGraph,
        "loss_terms_are_finite_scalars_without_gradient",
        "Loss 'loss' must be detached",
    ),
    (ChangesItsBatch, "a_step_leaves_its_batch_unchanged", r"changes \['target_images'\]"),
    (LeavesTheBackbone, "every_parameter_of_the_backbone_is_trained", "leaves .*'trunk"),
    (HasAnIdleHead, "every_parameter_is_trained_within_two_epochs", "'idle.weight'"),
    (
        HidesThatItReadsTargets,
        "target_images_matter_only_where_the_method_says_so",
        "uses_target = False must not read target images",
    ),
    (ReadsViewsUnasked, "second_views_are_read_only_on_request", "must set needs_target_views"),
    (
        DeclaresFalseAccumulation,
        "parts_of_a_batch_add_up_to_the_step_on_the_whole",
        "losses that are means over samples: .* differs",
    ),
    (
        PredictsByTheBatch,
        "predictions_do_not_depend_on_the_rest_of_the_batch",
        "logits of an image must not depend on the other images",
    ),
    (LearnsFromPredictions, "evaluation_changes_nothing", "predict must not change the method"),
    (NamesAnotherLayer, "output_layers_hold_one_vector_for_each_class", "parts of networks"),
    (ScalesItsLogits, "output_layers_hold_one_vector_for_each_class", "logits of predict"),
    (
        HasAnUndocumentedSetting,
        "settings_are_strict_documented_and_stored_without_loss",
        r"docstring below each setting, but lacks \['weight'\]",
    ),
]
KNOWN = {"stop": 1, "family": "vit"}
"""Values of the parametrised tests' arguments."""


class SoundContract(MethodContract):
    method = Sound


class GathersNothingContract(MethodContract):
    method = GathersNothing


class DriftsContract(MethodContract):
    method = Drifts


def check(method: type[Method], test: str, tmp_path: Path) -> None:
    contract = type("Contract", (MethodContract,), {"method": method})
    function = getattr(contract(), f"test_{test}")
    given = {"tmp_path": tmp_path, **KNOWN}
    function(**{name: given[name] for name in inspect.signature(function).parameters})


@pytest.mark.parametrize("method, test, message", FAULTS)
def test_a_fault_is_named(method: type[Method], test: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=message):
        check(method, test, tmp_path)


@pytest.mark.parametrize("test", sorted({test for _, test, _ in FAULTS}))
def test_a_sound_method_passes(test: str, tmp_path: Path) -> None:
    method = type("Sound", (Sound,), {"supports_accumulation": True})
    check(method, test, tmp_path)


def test_two_workers_of_a_sound_method_pass() -> None:
    SoundContract().test_two_workers_take_the_steps_of_one()
    SoundContract().test_two_workers_agree_with_batch_normalisation()


def test_two_workers_that_gather_nothing_are_named() -> None:
    with pytest.raises(AssertionError, match=r"differs\. .* over runtime\.all_gather"):
        GathersNothingContract().test_two_workers_take_the_steps_of_one()


def test_two_workers_that_drift_apart_are_named() -> None:
    with pytest.raises(AssertionError, match=r"same networks, but \['average'\] differ"):
        DriftsContract().test_two_workers_agree_with_batch_normalisation()
