"""Predictions, what criteria are given, and batch statistics of another domain."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tests.support.spy_tasks import tiny
from trainables.augmentations import evaluation_transform, normalize
from trainables.backbones import BACKBONES
from trainables.criteria import CRITERIA, Criterion
from trainables.data.evaluation import OracleEvaluation, classification_metrics, confusion_matrix
from trainables.data.images import Images
from trainables.methods import METHODS, Method
from trainables.nn.batchnorm import has_batchnorm, reestimate_batchnorm
from trainables.nn.networks import Prediction
from trainables.nn.optimization import optimizer_factory
from trainables.runtime.distributed import Runtime
from trainables.runtime.randomness import seed_everything
from trainables.tasks import Domains
from trainables.training.domains import open_domains
from trainables.training.evaluator import Evaluator, _Gather
from trainables.trial_config import TrialConfig

MCD = {"mcd": {"hidden_dim": 8}}


@pytest.fixture
def domains(digits_cache: Path) -> Domains:
    return open_domains(tiny(), digits_cache)


def build(config: TrialConfig) -> Method:
    seed_everything(config.seed, "method")
    architecture = BACKBONES[config.backbone.name]
    return METHODS[config.method.name](
        config.method.config,
        architecture.build(config.backbone.config, imagenet=False),
        10,
        optimizer_factory(config.optimizer),
        Runtime(),
    )


def meter(domains: Domains, **changes: Any) -> Evaluator:
    config = tiny(**changes)
    return Evaluator(config, domains, build(config), Runtime())


def predicted_at_once(one: Evaluator, images: Images) -> Prediction:
    """The method's word on a whole set, without batches."""
    transform = evaluation_transform(one.domains.geometry)
    stack = torch.stack([transform(images[i]) for i in range(len(images))])
    with one.method.evaluating():
        return one.method.predict(normalize(stack, one.config.normalization))


# What criteria are given


def test_predictions_are_in_the_set_s_order(domains: Domains) -> None:
    one = meter(domains, evaluation={"batch_size": 7, "max_images": 30})
    evaluation, _ = one.evaluation()
    whole = predicted_at_once(one, one.source_sample.images)
    assert torch.allclose(evaluation.source.logits, whole.logits, atol=1e-5)
    assert torch.allclose(evaluation.source.features, whole.features, atol=1e-5)
    assert torch.equal(evaluation.source_labels, one.source_sample.labels)


def test_criteria_see_a_sample_of_the_given_size(domains: Domains) -> None:
    evaluation, _ = meter(domains, evaluation={"max_images": 15}).evaluation()
    assert len(evaluation.source.logits) == len(evaluation.target.logits) == 15
    assert isinstance(evaluation, OracleEvaluation) and domains.target_val is not None
    assert len(evaluation.target_val.logits) == len(domains.target_val)


def test_the_sample_is_the_same_in_every_trial(domains: Domains) -> None:
    samples = [
        meter(domains, seed=seed, evaluation={"max_images": 15}).target_sample for seed in (0, 1)
    ]
    assert samples[0] is not None and samples[1] is not None
    assert torch.equal(samples[0].indices, samples[1].indices)
    assert samples[0].indices.tolist() != list(range(15))


def test_without_target_labels_criteria_get_none(domains: Domains) -> None:
    evaluation, _ = meter(replace(domains, target_val=None)).evaluation()
    assert type(evaluation).__name__ == "Evaluation"
    assert not hasattr(evaluation, "target_val_labels")


def test_without_a_target_criteria_get_an_empty_one(domains: Domains) -> None:
    evaluation, _ = meter(replace(domains, target_train=None, target_val=None)).evaluation()
    assert evaluation.target.logits.shape == (0, 10)


@pytest.mark.slow
def test_mixtures_are_of_the_sample_s_images(domains: Domains) -> None:
    one = meter(domains, evaluation={"batch_size": 7, "max_images": 30})
    evaluation, _ = one.evaluation()
    mixtures = evaluation.mixtures
    assert one.target_sample is not None and len(mixtures.first) > 0
    transform = evaluation_transform(one.domains.geometry)
    stack = normalize(
        torch.stack([transform(image) for image in one.target_sample]), one.config.normalization
    )
    with one.method.evaluating():
        expected = one.method.predict(0.55 * stack[mixtures.first] + 0.45 * stack[mixtures.second])
    assert torch.allclose(mixtures.logits, expected.logits, atol=1e-5)


@pytest.mark.parametrize(
    "method, num_heads, width",
    [
        *((name, 1, 16) for name in METHODS if name not in ("mcd", "srdc")),
        ("srdc", 1, 4),
        (MCD, 2, 8),
    ],
)
def test_class_weights_make_the_logits(
    domains: Domains,
    method: Any,
    num_heads: int,
    width: int,
) -> None:
    one = meter(domains, method=method, evaluation={"max_images": 20})
    inputs: list[Tensor] = []
    for layer in one.method.output_layers:
        layer.register_forward_hook(lambda _, given, __: inputs.append(given[0]))
    evaluation, _ = one.evaluation()
    assert [tuple(weights.shape) for weights in evaluation.class_weights] == num_heads * [
        (10, width)
    ]
    if num_heads == 1:
        logits = inputs[0] @ evaluation.class_weights[0].T + one.method.output_layers[0].bias
        assert torch.allclose(evaluation.source.logits, logits, atol=1e-5)


def test_only_the_oracle_says_that_it_reads_target_labels() -> None:
    reading = {name for name, criterion in CRITERIA.items() if criterion.reads_target_labels}
    assert reading == {"oracle"}
    assert all(
        issubclass(criterion, Criterion)
        for name, criterion in CRITERIA.items()
        if name != "oracle"
    )


def test_metrics_are_of_the_named_set(domains: Domains) -> None:
    one = meter(domains, method=MCD)
    data = domains.test_sets["IID"]
    whole = predicted_at_once(one, data.images)
    _, metrics = one.measure("IID", data)
    first = whole.head_logits["head_1"].argmax(dim=1)
    assert metrics["IID/accuracy"] == pytest.approx(
        (whole.logits.argmax(dim=1) == data.labels).float().mean().item()
    )
    assert metrics["IID/head_1_accuracy"] == pytest.approx(
        (first == data.labels).float().mean().item()
    )
    assert set(metrics) == {
        "IID/accuracy",
        "IID/mean_class_accuracy",
        "IID/head_1_accuracy",
        "IID/head_2_accuracy",
    }


def test_measuring_leaves_the_method_as_it_was(domains: Domains) -> None:
    one = meter(domains)
    before = {name: value.clone() for name, value in one.method.networks.state_dict().items()}
    one.evaluation()
    assert one.method.networks.training
    assert all(
        torch.equal(value, before[name])
        for name, value in one.method.networks.state_dict().items()
    )


# Metrics by hand


LOGITS = torch.eye(3)[torch.tensor([0, 0, 0, 1, 1, 2])]
LABELS = torch.tensor([0, 0, 0, 0, 1, 1])


def test_accuracy_and_mean_class_accuracy_by_hand() -> None:
    # class 0: 3 of 4 right, class 1: 1 of 2, class 2 does not occur
    assert classification_metrics(LOGITS, LABELS) == {
        "accuracy": pytest.approx(4 / 6),
        "mean_class_accuracy": pytest.approx(0.625),
    }


def test_confusion_by_hand() -> None:
    assert confusion_matrix(LOGITS, LABELS).tolist() == [[3, 1, 0], [0, 1, 1], [0, 0, 0]]


# Workers


@pytest.mark.parametrize("num_images, world_size", [(5, 2), (6, 2), (1, 2), (7, 4)])
def test_workers_interleaved_shares_come_back_in_order(num_images: int, world_size: int) -> None:
    whole = torch.arange(2.0 * num_images).view(num_images, 2)
    rows = -(-num_images // world_size)
    shares = [whole[rank::world_size] for rank in range(world_size)]
    padded = [torch.cat([share, share.new_zeros(rows - len(share), 2)]) for share in shares]
    for rank, share in enumerate(shares):

        def all_gather(mine: Tensor, rank: int = rank) -> Tensor:
            assert torch.equal(mine, padded[rank])
            return torch.cat(padded)

        runtime = Runtime(rank=rank, world_size=world_size, all_gather=all_gather)
        parts = list(share.split(1)) if len(share) else [whole[:1]]  # one image for its shape
        assert torch.equal(_Gather(num_images, runtime)(parts), whole)


# Views of an epoch


def test_epoch_views_are_both_training_sets_in_order(domains: Domains) -> None:
    one = meter(domains, evaluation={"batch_size": 64})
    views = one.views()
    parts = list(views.source())
    assert torch.equal(torch.cat([labels for _, labels in parts]), domains.source_train.labels)
    assert domains.target_train is not None
    for walked, images in (
        (torch.cat([images for images, _ in parts]), domains.source_train.images),
        (torch.cat(list(views.target())), domains.target_train.images),
    ):
        assert len(walked) == len(images)
        transform = evaluation_transform(domains.geometry)
        for i in (0, 70, len(images) - 1):
            expected = normalize(transform(images[i])[None], one.config.normalization)[0]
            assert torch.equal(walked[i], expected)


# Batch statistics


def test_statistics_become_the_mean_over_batches() -> None:
    layer = nn.BatchNorm1d(2, momentum=0.1)
    layer.running_mean = torch.full((2,), 9.0)
    batches = [torch.tensor([[0.0, 2.0], [2.0, 6.0]]), torch.tensor([[4.0, 0.0], [4.0, 4.0]])]
    reestimate_batchnorm(layer, layer, batches)
    assert torch.equal(layer.running_mean, torch.tensor([(1.0 + 4.0) / 2, (4.0 + 2.0) / 2]))
    assert layer.running_var is not None
    assert torch.equal(layer.running_var, torch.tensor([(2.0 + 0.0) / 2, (8.0 + 8.0) / 2]))
    assert layer.momentum == 0.1 and not layer.training


def test_weights_stay_when_statistics_change(domains: Domains) -> None:
    one = meter(domains)
    before = [parameter.clone() for parameter in one.method.networks.parameters()]
    one.test_metrics()
    assert all(map(torch.equal, before, one.method.networks.parameters()))


def test_only_batch_normalisation_trains_meanwhile() -> None:
    modes = []

    class Watch(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            modes.append(self.training)
            return images

    network = nn.Sequential(Watch(), nn.BatchNorm1d(2), nn.Dropout(0.5))
    reestimate_batchnorm(network, network, [torch.randn(4, 2)])
    assert modes == [False]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["no_adaptation", "dann", MCD])
def test_every_layer_gets_the_target_s_statistics(domains: Domains, method: Any) -> None:
    one = meter(domains, method=method, evaluation={"batch_size": 256})
    layers = [m for m in one.method.networks.modules() if isinstance(m, _BatchNorm)]
    before = [layer.running_mean.clone() for layer in layers if layer.running_mean is not None]
    one.test_metrics()
    assert len(layers) == (8 if method is MCD else 4)
    for layer, old in zip(layers, before, strict=True):
        mean, variance = layer.running_mean, layer.running_var
        assert mean is not None and variance is not None
        assert mean.isfinite().all() and variance.isfinite().all() and (variance >= 0).all()
        assert not torch.equal(mean, old)
        assert layer.num_batches_tracked == 4  # 898 scans, 256 at a time


@pytest.mark.slow
def test_test_metrics_are_first_with_the_source_s_statistics(domains: Domains) -> None:
    one = meter(domains)
    # statistics of the source, as after a training
    reestimate_batchnorm(
        one.method.networks, one.method.predict, [images for images, _ in one.views().source()]
    )
    predictions, expected = one.measure("target_test", domains.test_sets["target_test"])
    metrics, confusion = one.test_metrics()
    _, after = one.measure("target_test", domains.test_sets["target_test"])
    assert {name: metrics[name] for name in expected} == expected
    assert {name: metrics[f"target_batchnorm/{name}"] for name in after} == after != expected
    assert set(confusion) == set(domains.test_sets)
    assert torch.equal(
        confusion["target_test"],
        confusion_matrix(predictions.logits, domains.test_sets["target_test"].labels),
    )


def test_a_network_without_batch_statistics_has_none_of_the_target(domains: Domains) -> None:
    assert not has_batchnorm(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
    assert has_batchnorm(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
