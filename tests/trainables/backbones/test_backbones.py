"""Sizes, features and errors of the backbones."""

from pathlib import Path
from urllib.error import URLError

import pytest
import timm
import torch

from tests.support.tiny_methods import TRANSFORMERS
from trainables import backbones
from trainables.backbones import BACKBONES, Architecture, ResNet
from trainables.backbones.table import table
from trainables.configuration.schema import validate
from trainables.nn.networks import Backbone
from trainables.runtime.randomness import generator, seed_everything


def build(architecture: Architecture, *, imagenet: bool = False, **settings: object) -> Backbone:
    seed_everything(0, "backbone")
    return architecture.build(validate(architecture.Config, settings), imagenet)


def size_of(name: str) -> float:
    with torch.device("meta"):
        return sum(p.numel() for p in build(BACKBONES[name]).parameters())


@pytest.mark.parametrize(
    "name, millions",
    [
        ("resnet50", 23.5),
        ("vit_base", 85.8),
        ("mixer_base", 59.1),  # the paper's
        ("deit_base", 85.8),
        ("mixer_huge", 431.1),  # Mixer-H/14: Tolstikhin et al. say 431
    ],
)
def test_numbers_of_parameters_are_the_published_ones(name: str, millions: float) -> None:
    assert round(size_of(name) / 1e6, 1) == millions


@pytest.mark.slow
def test_page_of_backbones_is_up_to_date() -> None:
    page = Path(__file__).parents[3] / "docs" / "backbones.md"
    assert page.read_text() == table(), (
        "run: python -m trainables.backbones.table > docs/backbones.md"
    )


@pytest.mark.parametrize(
    "name", ["small_cnn", "small_resnet", "resnet18", "vit_micro", "mixer_micro"]
)
def test_small_images_give_one_feature_vector_each(name: str) -> None:
    backbone = build(BACKBONES[name]).eval()
    assert backbone(torch.zeros(2, 3, 32, 32)).shape == (2, backbone.feature_dim)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "vgg11",
        "convnext_tiny",
        "mobilenetv3_small_100",
        "swin_tiny_patch4_window7_224",
        "deit_tiny_distilled_patch16_224",
    ],
)
def test_any_network_of_timm_gives_as_many_features_as_it_says(name: str) -> None:
    with torch.device("meta"):
        backbone = build(BACKBONES["timm"], name=name).eval()
        size = backbone.image_size or 224
        assert backbone(torch.zeros(2, 3, size, size)).shape == (2, backbone.feature_dim)


def test_timm_network_of_another_image_size() -> None:
    with torch.device("meta"):
        backbone = build(BACKBONES["timm"], name="deit_tiny_patch16_224", image_size=64)
        assert backbone(torch.zeros(2, 3, 64, 64)).shape == (2, 192)


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"name": "convnext_tinny"},
            "timm knows no network 'convnext_tinny'. Did you mean 'convnext_tiny'?",
        ),
        ({"name": "resnet18", "image_size": 32}, "lacks one of the settings img_size"),
        ({"name": "vgg11", "stochastic_depth": 0.1}, "lacks one of the settings drop_path_rate"),
    ],
)
def test_what_timm_refuses_is_explained(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")), torch.device("meta"):
        build(BACKBONES["timm"], **settings)


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_dropout_and_stochastic_depth_are_for_training(family: str) -> None:
    images = torch.randn(4, 3, 8, 8, generator=generator(0, "images"))
    plain, noisy = (
        build(TRANSFORMERS[family], **settings)
        for settings in ({}, {"dropout": 0.1, "stochastic_depth": 0.5})
    )
    assert torch.equal(plain(images), plain(images))
    assert not torch.equal(noisy(images), noisy(images))
    assert torch.equal(noisy.eval()(images), plain.eval()(images))


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_each_setting_makes_its_own_noise(family: str) -> None:
    images = torch.randn(4, 3, 8, 8, generator=generator(0, "images"))
    for setting in ("dropout", "stochastic_depth"):
        backbone = build(TRANSFORMERS[family], **{setting: 0.5})
        assert not torch.equal(backbone(images), backbone(images)), setting


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_images_of_another_size_are_refused(family: str) -> None:
    backbone = build(TRANSFORMERS[family])
    with pytest.raises(
        ValueError,
        match="built for images of 8 × 8 pixels, and the task gives "
        r"16 × 16. Set the backbone's image_size: 16\.",
    ):
        backbone(torch.zeros(1, 3, 16, 16))
    assert build(TRANSFORMERS[family], image_size=16)(torch.zeros(1, 3, 16, 16)).shape == (1, 16)


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_patches_fill_the_image(family: str) -> None:
    with pytest.raises(ValueError, match="must be a multiple of patch_size, got 10 and 4"):
        build(TRANSFORMERS[family], image_size=10)


@pytest.mark.parametrize("num_blocks, thousands", [(1, 77), (3, 272), (5, 466)])
def test_small_resnets_have_the_size_of_the_paper(num_blocks: int, thousands: int) -> None:
    """Table 6 of He et al. says 0.27 and 0.46 million for ResNet-20 and -32."""
    backbone = build(BACKBONES["small_resnet"], num_blocks=num_blocks)
    count = sum(p.numel() for p in backbone.parameters())
    assert round(count / 1000) == thousands


# Published weights


def published(name: str, **settings: int) -> torch.nn.Module:
    """What timm would download."""
    seed_everything(1, "published")
    return timm.create_model(name.partition(".")[0], num_classes=0, **settings)


def test_imagenet_weights_of_transformers_come_from_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, int]]] = []

    def download(
        name: str, *, pretrained: bool, num_classes: int, **settings: int
    ) -> torch.nn.Module:
        assert pretrained and num_classes == 0
        asked.append((name, settings))
        return network

    network = published("deit_tiny_patch16_224", img_size=32, patch_size=16)
    monkeypatch.setattr(backbones._from_timm.timm, "create_model", download)
    backbone = build(BACKBONES["deit_tiny"], imagenet=True, image_size=32)
    assert asked == [("deit_tiny_patch16_224.fb_in1k", {"img_size": 32, "patch_size": 16})]
    for name, value in backbone.trunk.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), name


@pytest.mark.parametrize("name", BACKBONES)
def test_timm_knows_the_named_weights(name: str) -> None:
    library, _, weights = (BACKBONES[name].imagenet_weights or "").partition(" ")
    if library == "timm" and name != "timm":
        assert weights in timm.list_pretrained()


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny", "mixer_base", "timm"])
def test_without_a_network_there_is_one_clear_message(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **settings: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(backbones.resnet, "get_model", fail)
    monkeypatch.setattr(backbones._from_timm.timm, "create_model", fail)
    settings = {"name": "convnext_tiny"} if name == "timm" else {}
    with (
        torch.device("meta"),
        pytest.raises(
            ValueError,
            match=(
                r"^the ImageNet weights of .* cannot be downloaded \(.*not known.*\)\. Fetch "
                r"them .*"
                r"checkpoint: \{path: …\}"
            ),
        ),
    ):
        build(BACKBONES[name], imagenet=True, **settings)


@pytest.mark.parametrize(
    "name", ["mixer_small", "mixer_huge", "vit_micro", "small_cnn", "small_resnet"]
)
def test_weights_that_nobody_published(name: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="no ImageNet weights"):
        build(BACKBONES[name], imagenet=True)


def test_resnets_have_the_depth_of_their_name() -> None:
    with torch.device("meta"):
        convolutions = sum(isinstance(m, torch.nn.Conv2d) for m in build(ResNet(34)).modules())
    assert convolutions == 34 - 1 + 3  # the classifier is off; three shortcuts are on
