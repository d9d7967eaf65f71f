"""The contracts of all tables but methods name what is wrong with a broken entry."""

import inspect
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from tests.contracts import (
    AugmentationContract,
    BackboneContract,
    CriterionContract,
    TaskContract,
)
from trainables.augmentations import Augmentation, AugmentationConfig, Geometry
from trainables.backbones import Architecture, Backbone, BackboneConfig
from trainables.criteria import Criterion, Evaluation, OracleEvaluation
from trainables.tasks import (
    Domains,
    LabelledImages,
    Task,
    TaskConfig,
    TensorImages,
    UnlabelledImages,
)

# Backbones


class Pooling(nn.Module):
    """A linear map of the mean colour."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.mean(dim=(2, 3)))


class SoundArchitecture(Architecture):
    """Nothing is wrong."""

    trunk: type[nn.Module] = Pooling
    feature_dim = 5

    def build(self, config: BackboneConfig, imagenet: bool) -> Backbone:
        if imagenet:
            raise ValueError("no ImageNet weights are published for this backbone.")
        return Backbone(self.trunk(), self.feature_dim)


class LiesAboutItsWidth(SoundArchitecture):
    feature_dim = 6


class IgnoresImageNet(SoundArchitecture):
    def build(self, config: BackboneConfig, imagenet: bool) -> Backbone:
        return super().build(config, imagenet=False)


class KeepsItsClassifier(SoundArchitecture):
    class trunk(Pooling):  # noqa: N801 - an attribute
        def __init__(self) -> None:
            super().__init__()
            self.classifier = nn.Linear(5, 2)


class AlwaysTheSameWeights(SoundArchitecture):
    class trunk(Pooling):  # noqa: N801
        def __init__(self) -> None:
            super().__init__()
            nn.init.ones_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)


class RemembersOutsideItsState(SoundArchitecture):
    class trunk(Pooling):  # noqa: N801
        mean = 0.0

        def forward(self, images: Tensor) -> Tensor:
            if self.training:
                self.mean = float(images.mean())
            return super().forward(images - self.mean)


class NormalisesByTheBatch(SoundArchitecture):
    class trunk(Pooling):  # noqa: N801
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images - images.mean(dim=0))


class ChangesItsImages(SoundArchitecture):
    class trunk(Pooling):  # noqa: N801
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images.sub_(1))


# Augmentations


class SoundAugmentation(Augmentation):
    """Nothing is wrong."""

    @staticmethod
    def build(config: AugmentationConfig, geometry: Geometry) -> nn.Module:
        return v2.RandomResizedCrop(geometry.crop_size, antialias=True)


class _Also(nn.Module):
    def __init__(self, change: Callable[[Tensor], Tensor], geometry: Geometry) -> None:
        super().__init__()
        self.crop = SoundAugmentation.build(AugmentationConfig(), geometry)
        self.change = change

    def forward(self, images: Tensor) -> Tensor:
        return self.crop(self.change(images))


class ChangesItsInput(SoundAugmentation):
    @staticmethod
    def build(config: AugmentationConfig, geometry: Geometry) -> nn.Module:
        return _Also(_invert_in_place, geometry)


def _invert_in_place(images: Tensor) -> Tensor:
    return images.bitwise_not_()


class DrawsFromPython(SoundAugmentation):
    @staticmethod
    def build(config: AugmentationConfig, geometry: Geometry) -> nn.Module:
        return _Also(_shift, geometry)


def _shift(images: Tensor) -> Tensor:
    return images.roll(random.randrange(1, 20), dims=-1)


class HoldsALambda(SoundAugmentation):
    @staticmethod
    def build(config: AugmentationConfig, geometry: Geometry) -> nn.Module:
        return _Also(lambda images: images, geometry)


class KnowsOneSize(SoundAugmentation):
    @staticmethod
    def build(config: AugmentationConfig, geometry: Geometry) -> nn.Module:
        return v2.RandomResizedCrop(24, antialias=True)


class ReturnsFloats(SoundAugmentation):
    @staticmethod
    def build(config: AugmentationConfig, geometry: Geometry) -> nn.Module:
        return nn.Sequential(
            SoundAugmentation.build(config, geometry), v2.ToDtype(torch.float32, scale=True)
        )


class DrawsForEachImage(SoundAugmentation):
    @staticmethod
    def build(config: AugmentationConfig, geometry: Geometry) -> nn.Module:
        return _Also(_noise, geometry)


def _noise(images: Tensor) -> Tensor:
    return (images.float() + 9 * torch.randn(images.shape)).clamp(0, 255).to(torch.uint8)


class DoesNothing(SoundAugmentation):
    @staticmethod
    def build(config: AugmentationConfig, geometry: Geometry) -> nn.Module:
        return v2.Compose([v2.Resize(geometry.crop_size), v2.CenterCrop(geometry.crop_size)])


# Criteria


class SoundCriterion(Criterion):
    """The mean probability of the predicted class: nothing is wrong."""

    def score(self, evaluation: Evaluation) -> float:
        return float(evaluation.target.logits.softmax(dim=1).amax(dim=1).mean())

    def lower_bound(self, num_classes: int) -> float:
        return 1 / num_classes


class IsNoNumber(SoundCriterion):
    def score(self, evaluation: Evaluation) -> float:
        probabilities = evaluation.target.logits.softmax(dim=1)
        return float((probabilities * probabilities.log()).sum(dim=1).mean())

    def lower_bound(self, num_classes: int) -> float:
        return -100.0


class FallsBelowItsBound(SoundCriterion):
    def lower_bound(self, num_classes: int) -> float:
        return 1.5


class ForgetsToNegate(SoundCriterion):
    def score(self, evaluation: Evaluation) -> float:
        return 1 - super().score(evaluation)

    def lower_bound(self, num_classes: int) -> float:
        return 0.0


class ReadsLabels(SoundCriterion):
    def score(self, evaluation: Any) -> float:
        right = evaluation.target_val.logits.argmax(dim=1) == evaluation.target_val_labels
        return float(right.float().mean())


class ReadsLabelsWhereThereAreAny(SoundCriterion):
    def score(self, evaluation: Evaluation) -> float:
        if isinstance(evaluation, OracleEvaluation):
            return float(evaluation.target_val_labels.float().mean())
        return super().score(evaluation)


class DrawsAtRandom(SoundCriterion):
    def score(self, evaluation: Evaluation) -> float:
        return super().score(evaluation) + float(torch.rand(()))


class TakesTheFirstImages(SoundCriterion):
    def score(self, evaluation: Evaluation) -> float:
        first = replace(evaluation.target, logits=evaluation.target.logits[:10])
        return super().score(replace(evaluation, target=first))


class ReadsUnnormalisedLogits(SoundCriterion):
    def score(self, evaluation: Evaluation) -> float:
        return float(evaluation.target.logits.amax(dim=1).mean())


class ChangesTheEvaluation(SoundCriterion):
    def score(self, evaluation: Evaluation) -> float:
        evaluation.target.features.zero_()
        return super().score(evaluation)


class ReturnsATensor(SoundCriterion):
    def score(self, evaluation: Evaluation) -> Any:
        return torch.tensor(super().score(evaluation))


# Tasks


def _images(first: int, count: int) -> TensorImages:
    """Images of 8 × 8 pixels, each of one value."""
    values = torch.arange(first, first + count, dtype=torch.uint8)
    return TensorImages(values.view(-1, 1, 1, 1).expand(-1, 3, 8, 8).contiguous())


def _labelled(first: int, count: int) -> LabelledImages:
    return LabelledImages(_images(first, count), torch.arange(count) % 2)


class SoundTask(Task):
    """Nothing is wrong."""

    @staticmethod
    def load(config: TaskConfig, cache: Path) -> Domains:
        return Domains(
            classes=("dark", "bright"),
            geometry=Geometry(crop_size=8, resize_size=8),
            source_train=_labelled(0, 20),
            source_val=_labelled(20, 4),
            target_train=UnlabelledImages(_images(30, 10)),
            target_val=_labelled(40, 4),
            test_sets={"target_test": _labelled(50, 4)},
        )


class OverlappingSplit(SoundTask):
    @staticmethod
    def load(config: TaskConfig, cache: Path) -> Domains:
        return replace(SoundTask.load(config, cache), source_val=_labelled(18, 4))


class TrainsOnItsTestSet(SoundTask):
    @staticmethod
    def load(config: TaskConfig, cache: Path) -> Domains:
        return replace(SoundTask.load(config, cache), test_sets={"test": _labelled(19, 4)})


class LabelledTarget(SoundTask):
    @staticmethod
    def load(config: TaskConfig, cache: Path) -> Domains:
        return replace(SoundTask.load(config, cache), target_train=_labelled(30, 4))


class HidesLabelsInImages(SoundTask):
    @staticmethod
    def load(config: TaskConfig, cache: Path) -> Domains:
        images = _images(30, 10)
        images.labels = torch.arange(10) % 2
        return replace(SoundTask.load(config, cache), target_train=UnlabelledImages(images))


class LacksAClass(SoundTask):
    @staticmethod
    def load(config: TaskConfig, cache: Path) -> Domains:
        return replace(SoundTask.load(config, cache), classes=("dark", "medium", "bright"))


class CountsFromOne(SoundTask):
    @staticmethod
    def load(config: TaskConfig, cache: Path) -> Domains:
        domains = SoundTask.load(config, cache)
        test = domains.test_sets["target_test"]
        return replace(domains, test_sets={"test": replace(test, labels=test.labels + 1)})


class AnotherOrderEachTime(SoundTask):
    @staticmethod
    def load(config: TaskConfig, cache: Path) -> Domains:
        domains = SoundTask.load(config, cache)
        return replace(domains, source_train=domains.source_train.subset(torch.randperm(20)))


class CannotBeSent(SoundTask):
    @staticmethod
    def load(config: TaskConfig, cache: Path) -> Domains:
        images = _images(30, 10)
        images.open = lambda: images
        return replace(SoundTask.load(config, cache), target_train=UnlabelledImages(images))


class FloatImages(SoundTask):
    @staticmethod
    def load(config: TaskConfig, cache: Path) -> Domains:
        images = _images(30, 10)
        images.tensor = images.tensor.float()
        return replace(SoundTask.load(config, cache), target_train=UnlabelledImages(images))


FAULTS: list[tuple[type, str, str]] = [
    (LiesAboutItsWidth, "each_image_has_one_feature_vector", r"\(B, feature_dim\) = \(3, 6\)"),
    (ChangesItsImages, "each_image_has_one_feature_vector", "must not change its images"),
    (
        NormalisesByTheBatch,
        "in_evaluation_features_are_repeatable_and_of_each_image_alone",
        "must not depend on the rest of the batch",
    ),
    (
        AlwaysTheSameWeights,
        "initial_weights_come_from_torchs_generator",
        "Another seed must give other weights",
    ),
    (RemembersOutsideItsState, "the_state_holds_everything", "buffers or parameters"),
    (KeepsItsClassifier, "gradients_reach_every_parameter", "'trunk.classifier.weight'"),
    (
        IgnoresImageNet,
        "without_published_weights_there_are_none_to_load",
        "must raise ValueError",
    ),
    (ChangesItsInput, "the_input_stays_unchanged", "must not change its input in place"),
    (DrawsFromPython, "draws_come_from_torchs_generator_alone", "torch's global generator alone"),
    (DoesNothing, "draws_come_from_torchs_generator_alone", "gave 1 different images"),
    (HoldsALambda, "the_transform_can_be_sent_to_loader_processes", "cannot be pickled"),
    (KnowsOneSize, "the_task_decides_the_sizes", r"the shape \(3, 9, 9\) that the task's"),
    (ReturnsFloats, "images_stay_images_of_the_crops_size", "must stay uint8, got torch.float32"),
    (DrawsForEachImage, "images_stay_images_of_the_crops_size", "must share one draw"),
    (
        IsNoNumber,
        "scores_are_finite_and_not_below_their_bound",
        "A score must be finite, got nan",
    ),
    (
        FallsBelowItsBound,
        "scores_are_finite_and_not_below_their_bound",
        "must not be below lower_bound, got .* < 1.5",
    ),
    (ForgetsToNegate, "a_larger_score_is_better", "Larger scores are better: negate a loss"),
    (
        ReadsLabels,
        "only_a_criterion_that_declares_it_reads_target_labels",
        "must not read target labels: 'Evaluation' object has no attribute 'target_val'",
    ),
    (
        ReadsLabelsWhereThereAreAny,
        "only_a_criterion_that_declares_it_reads_target_labels",
        "its score differs where there are any",
    ),
    (DrawsAtRandom, "scores_are_equal_each_time", "state of torch's generator"),
    (TakesTheFirstImages, "the_order_of_images_does_not_matter", "order of images, got"),
    (ReadsUnnormalisedLogits, "a_constant_for_each_image_does_not_matter", "softmax removes"),
    (ChangesTheEvaluation, "the_evaluation_stays_unchanged", "'evaluation.target.features'"),
    (ReturnsATensor, "scores_are_equal_each_time", "must be a float, got Tensor"),
    (
        OverlappingSplit,
        "domains_do_not_overlap",
        "source_train and source_val must not overlap, but share 2 images",
    ),
    (TrainsOnItsTestSet, "domains_do_not_overlap", "source_train and test must not overlap"),
    (
        LabelledTarget,
        "target_labels_are_out_of_reach_of_training",
        "must be UnlabelledImages, got LabelledImages",
    ),
    (HidesLabelsInImages, "target_labels_are_out_of_reach_of_training", "must not keep labels"),
    (LacksAClass, "labels_are_positions_of_classes", r"lacks \['bright'\]"),
    (CountsFromOne, "labels_are_positions_of_classes", r"of test must be in \[0, 2\), got"),
    (AnotherOrderEachTime, "loading_again_gives_the_same_images", "source_train must hold"),
    (CannotBeSent, "images_can_be_sent_to_loader_processes", "target_train cannot be pickled"),
    (FloatImages, "images_are_uint8_in_colour_and_of_the_geometry", "must be uint8 of shape"),
]
SOUND: dict[type, tuple[type, str, type]] = {
    Architecture: (BackboneContract, "architecture", SoundArchitecture),
    Augmentation: (AugmentationContract, "augmentation", SoundAugmentation),
    Criterion: (CriterionContract, "criterion", SoundCriterion),
    Task: (TaskContract, "task", SoundTask),
}
"""By a table's base: its contract, the attribute that names the entry, and a sound entry."""


def check(entry: type, test: str, folder: Path) -> None:
    """Run one test of the contract on an entry."""
    contract, attribute, _ = next(row for base, row in SOUND.items() if issubclass(entry, base))
    plugin = entry() if issubclass(entry, Architecture) else entry
    instance = type("Contract", (contract,), {attribute: plugin})()
    function = getattr(instance, f"test_{test}")
    names = inspect.signature(function).parameters
    given: dict[str, object] = {
        "tmp_path": folder,
        "given": {},
        "num_images": 3,
        "collapse": "certain",
        "same_features": False,
        "geometry": Geometry(crop_size=9, resize_size=31),
    }
    if "domains" in names:
        given["domains"] = instance._load({}, folder / "cache")
    function(**{name: given[name] for name in names})


@pytest.mark.parametrize("entry, test, message", FAULTS)
def test_a_fault_is_named(entry: type, test: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=message):
        check(entry, test, tmp_path)


@pytest.mark.parametrize(
    "entry, test",
    sorted(
        {
            (sound, test)
            for entry, test, _ in FAULTS
            for base, (_, _, sound) in SOUND.items()
            if issubclass(entry, base)
        },
        key=str,
    ),
)
def test_a_sound_entry_passes(entry: type, test: str, tmp_path: Path) -> None:
    check(entry, test, tmp_path)
