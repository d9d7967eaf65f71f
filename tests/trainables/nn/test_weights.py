"""Weight files in the layouts in which they are published."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models import ResNet as TorchvisionResNet
from torchvision.models import resnet18
from torchvision.models.resnet import BasicBlock

from tests.support.tiny_methods import tiny_method
from trainables.backbones import BACKBONES, Mixer, VisionTransformer
from trainables.checkpointing.tensors import save_tensors
from trainables.nn.networks import Backbone
from trainables.nn.weights import LoadReport, load_backbone
from trainables.runtime.randomness import seed_everything


def trunk() -> TorchvisionResNet:
    """A ResNet-10, with torchvision's names."""
    network = TorchvisionResNet(BasicBlock, [1, 1, 1, 1])
    network.fc = nn.Identity()  # type: ignore[assignment]
    return network


@pytest.fixture
def backbone() -> Backbone:
    seed_everything(0, "backbone")
    return Backbone(trunk(), 512)


class Published(nn.Module):
    """A network as the release writes them: children of a ResNet in order, then heads."""

    def __init__(self, **heads: nn.Module) -> None:
        super().__init__()
        seed_everything(1, "published")
        self.features = nn.Sequential(*list(trunk().children())[:-1])
        for name, head in heads.items():
            self.add_module(name, head)


def wrapped(state: Mapping[str, Any]) -> dict[str, Any]:
    return {f"module.{name}": value for name, value in state.items()}


def save(path: Path, content: Mapping[str, Any]) -> Path:
    torch.save(dict(content), path / "published.pth.tar")
    return path / "published.pth.tar"


def assert_trunk_is(backbone: Backbone, published: Published) -> None:
    expected = [*published.features.state_dict().values()]
    actual = [*backbone.trunk.state_dict().values()]
    assert len(actual) == len(expected) > 50
    for ours, theirs in zip(actual, expected, strict=True):
        assert torch.equal(ours, theirs)


def linear() -> nn.Module:
    return nn.Linear(512, 3)


HEADS: dict[str, dict[str, nn.Module]] = {
    "no_adaptation": {"fc": linear()},
    "dann": {"fc": linear(), "domain_fc": linear()},
    "rca": {"fc": linear(), "fc_joint": linear()},
    "srdc": {"fc1": nn.Sequential(linear(), nn.BatchNorm1d(3)), "fc2": linear()},
    "disclusterda": {"fc1": linear()},
    "disclusterda_later": {"classifier": linear()},
}


@pytest.mark.parametrize("data_parallel", [True, False])
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict"])
@pytest.mark.parametrize("heads", HEADS)
def test_release(
    heads: str,
    key: str,
    data_parallel: bool,
    backbone: Backbone,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    published = Published(**HEADS[heads])
    state = published.state_dict()
    path = save(
        tmp_path,
        {
            key: wrapped(state) if data_parallel else state,
            "epoch": 3,
            "best_prec1": torch.tensor(81.5),
            "arch": "resnet10",
        },
    )
    with caplog.at_level(logging.INFO):
        report = load_backbone(backbone, path)
    assert_trunk_is(backbone, published)
    assert report.loaded == tuple(backbone.trunk.state_dict())
    assert report.new == ()
    assert report.ignored == tuple(name for name in state if not name.startswith("features."))
    (record,) = caplog.records
    assert record.levelno == logging.INFO and str(report) in record.message


@pytest.mark.parametrize("data_parallel", [True, False])
def test_release_of_mcd_nests_three_networks(
    data_parallel: bool, backbone: Backbone, tmp_path: Path
) -> None:
    published = Published()
    parts: dict[str, Mapping[str, Tensor]] = {
        "G": published.state_dict(),
        "F1": linear().state_dict(),
        "F2": linear().state_dict(),
    }
    content = {name: wrapped(state) if data_parallel else state for name, state in parts.items()}
    report = load_backbone(backbone, save(tmp_path, {"model_state_dict": content}))
    assert_trunk_is(backbone, published)
    assert [name.split(".")[0] for name in report.ignored] == ["F1", "F1", "F2", "F2"]


def test_torchvision(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seed_everything(1, "published")
    published = resnet18()
    backbone = BACKBONES["resnet18"].build(BACKBONES["resnet18"].Config(), imagenet=False)
    with caplog.at_level(logging.INFO):
        report = load_backbone(backbone, save(tmp_path, published.state_dict()))
    assert report.ignored == ("fc.weight", "fc.bias") and report.new == ()
    assert caplog.records[0].levelno == logging.INFO
    for name, value in backbone.trunk.state_dict().items():
        assert torch.equal(value, published.state_dict()[name])


@pytest.mark.parametrize("key", ["model", None])
def test_timm_keeps_inner_layers_that_are_called_fc(key: str | None, tmp_path: Path) -> None:
    seed_everything(1, "published")
    published = timm.models.VisionTransformer(
        img_size=8, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=5
    )
    architecture = VisionTransformer(16, 2, 2, image_size=8, patch_size=4)
    backbone = architecture.build(architecture.Config(), imagenet=False)
    state = published.state_dict()
    report = load_backbone(backbone, save(tmp_path, {key: state} if key else state))
    assert report.ignored == ("head.weight", "head.bias") and report.new == ()
    assert "blocks.0.mlp.fc1.weight" in report.loaded
    loaded = backbone.trunk.state_dict()
    for name in report.loaded:
        assert torch.equal(loaded[name], state[name]), name


@pytest.mark.parametrize("method", ["mcd", "srdc", "disclusterda"])
def test_own_checkpoints(method: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    architecture = Mixer(16, 2, image_size=8, patch_size=4)
    seed_everything(1, "published")
    trained = tiny_method(method, architecture.build(architecture.Config(), imagenet=False))
    path = tmp_path / "best.pt"
    save_tensors(path, {"networks": trained.networks.state_dict()})
    seed_everything(0, "backbone")
    backbone = architecture.build(architecture.Config(), imagenet=False)
    with caplog.at_level(logging.INFO):
        report = load_backbone(backbone, path)
    assert report.new == () and report.ignored
    assert caplog.records[0].levelno == logging.INFO
    expected = trained.networks.backbone.state_dict()
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, expected[name])


def test_weights_of_a_deeper_network_are_no_silent_success(
    backbone: Backbone, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """ResNet-101's fill ResNet-50, and a third of the file stays over."""
    path = save(tmp_path, TorchvisionResNet(BasicBlock, [1, 1, 2, 1]).state_dict())
    report = load_backbone(backbone, path)
    assert report.new == () and "layer3.1.conv1.weight" in report.ignored
    assert caplog.records[0].levelno == logging.WARNING


def test_what_the_file_lacks_keeps_its_values(
    backbone: Backbone, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = {name: value.clone() for name, value in backbone.trunk.state_dict().items()}
    state = {
        name: value
        for name, value in Published().state_dict().items()
        if not name.startswith("features.7.")
    }
    report = load_backbone(backbone, save(tmp_path, {"state_dict": state}))
    assert report.new and all(name.startswith("layer4.") for name in report.new)
    for name in report.new:
        assert torch.equal(backbone.trunk.state_dict()[name], before[name])
    assert caplog.records[0].levelno == logging.WARNING
    assert f"{len(report.new)} new (layer4." in caplog.records[0].message


def test_files_without_batch_counters_are_complete(
    backbone: Backbone, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = {
        name: value
        for name, value in Published().state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    with caplog.at_level(logging.INFO):
        load_backbone(backbone, save(tmp_path, {"state_dict": state}))
    assert caplog.records[0].levelno == logging.INFO


def test_nothing_in_common(backbone: Backbone, tmp_path: Path) -> None:
    path = save(tmp_path, nn.Sequential(linear()).state_dict())
    with pytest.raises(
        ValueError,
        match=r"published.pth.tar: no tensor matches the backbone\. "
        r"The file has \(0\.weight, 0\.bias\), the backbone \(",
    ):
        load_backbone(backbone, path)


def test_empty_file(backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="The file has no tensors, the backbone"):
        load_backbone(backbone, save(tmp_path, {"state_dict": {}, "epoch": 1}))


def test_another_shape_changes_nothing(backbone: Backbone, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in backbone.trunk.state_dict().items()}
    state = Published().state_dict() | {"features.0.weight": torch.zeros(64, 1, 7, 7)}
    with pytest.raises(
        ValueError,
        match=r"conv1\.weight has shape \(64, 1, 7, 7\), the "
        r"backbone needs \(64, 3, 7, 7\)",
    ):
        load_backbone(backbone, save(tmp_path, {"state_dict": state}))
    for name, value in backbone.trunk.state_dict().items():
        assert torch.equal(value, before[name])


def test_code_in_a_file_is_not_run(backbone: Backbone, tmp_path: Path) -> None:
    torch.save({"state_dict": LoadReport((), (), ())}, tmp_path / "object.pth.tar")
    with pytest.raises(ValueError, match="not a file of tensors"):
        load_backbone(backbone, tmp_path / "object.pth.tar")
