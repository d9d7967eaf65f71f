"""Every architecture of the table keeps to the contract, in a small size."""

from tests.contracts import BackboneContract
from tests.support.tiny_methods import TRANSFORMERS
from trainables.backbones import BACKBONES


class TestAnyTimm(BackboneContract):
    architecture = BACKBONES["timm"]
    settings = {"name": "test_resnet"}


class TestMixer(BackboneContract):
    architecture = TRANSFORMERS["mixer"]
    image_size = 8


class TestResNet(BackboneContract):
    architecture = BACKBONES["resnet18"]


class TestSmallCNN(BackboneContract):
    architecture = BACKBONES["small_cnn"]
    settings = {"width": 4, "feature_dim": 16}


class TestSmallResNet(BackboneContract):
    architecture = BACKBONES["small_resnet"]
    settings = {"num_blocks": 1}


class TestVisionTransformer(BackboneContract):
    architecture = TRANSFORMERS["vit"]
    image_size = 8


def test_every_architecture_has_a_contract() -> None:
    tested = {type(v.architecture) for name, v in globals().items() if name.startswith("Test")}
    missing = [name for name, entry in BACKBONES.items() if type(entry) not in tested]
    assert not missing, f"write a subclass of BackboneContract here for {missing}"
