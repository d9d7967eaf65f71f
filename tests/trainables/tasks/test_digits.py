"""The embedded task and its renderer."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.augmentations import Geometry
from trainables.configuration.schema import BaseConfig, ConfigError, validate
from trainables.data.array_cache import cached_array
from trainables.data.images import Images, LabelledImages, UnlabelledImages
from trainables.tasks import Digits, Domains
from trainables.tasks.digits import digits as digits_module
from trainables.tasks.digits._canvas import Stream
from trainables.tasks.digits._factors import (
    Background,
    Factors,
    Illumination,
    Scale,
    Texture,
    Viewpoint,
)
from trainables.tasks.digits._glyphs import FONTS, draw_glyphs
from trainables.tasks.digits._renderer import RENDERER_VERSION, render
from trainables.tasks.digits._shading import draw_light

SMALL = {"num_source": 200, "num_test": 40}
BLACK = Background(randomize=False, fixed_colour=(0, 0, 0))
PLAIN = Factors(
    scale=Scale(randomize=False),
    texture=Texture(randomize=False),
    illumination=Illumination(randomize=False),
    viewpoint=Viewpoint(randomize=False),
    background=BLACK,
)
"""Nothing varies but font, deformation and noise."""
MEANS = [93.15, 202.99, 100.96, 156.55, 151.93, 161.99, 124.89, 108.7, 108.89, 118.55]
SPREADS = [56.55, 46.51, 67.29, 65.97, 42.62, 83.25, 53.42, 26.07, 94.61, 85.56]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def domains(cache: Path) -> Domains:
    return load(cache)


@pytest.fixture(scope="module")
def glyphs() -> Tensor:
    return torch.from_numpy(draw_glyphs())


def load(cache: Path, **settings: object) -> Domains:
    return Digits.load(validate(Digits.Config, SMALL | settings), cache)


def stack(images: Images | LabelledImages | UnlabelledImages | None) -> Tensor:
    assert images is not None
    plain = images if isinstance(images, Images) else images.images
    return torch.stack([plain[i] for i in range(len(plain))])


def contents(images: Images | LabelledImages | UnlabelledImages | None) -> set[bytes]:
    return {image.numpy().tobytes() for image in stack(images)}


def border(pictures: Tensor) -> Tensor:
    """The outermost pixels, float, shape ``(N, 3, 124)``."""
    outer = torch.ones(32, 32, dtype=torch.bool)
    outer[1:-1, 1:-1] = False
    return pictures[:, :, outer].float()


def covered(pictures: Tensor) -> Tensor:
    """Where something is on a black background, shape ``(N, 32, 32)``."""
    return pictures.float().mean(1) > 40


# The renderer


def test_version_1_draws_these_pictures(glyphs: Tensor) -> None:
    # Not a digest: processors differ in a picture's last bits. If this fails on purpose, raise
    # RENDERER_VERSION and record anew.
    assert RENDERER_VERSION == 1
    pictures = render(glyphs, Stream(0, "source"), range(10), Factors()).float()
    means, spreads = pictures.mean((1, 2, 3)), pictures.std((1, 2, 3))
    torch.testing.assert_close(means, torch.tensor(MEANS), atol=0.02, rtol=0)
    torch.testing.assert_close(spreads, torch.tensor(SPREADS), atol=0.02, rtol=0)


def test_a_picture_is_the_same_in_any_company_and_on_any_number_of_threads(
    glyphs: Tensor,
) -> None:
    stream = Stream(3, "source")
    together = render(glyphs, stream, range(100), Factors())
    alone = [render(glyphs, stream, [i], Factors())[0] for i in (0, 17, 99)]
    assert torch.equal(torch.stack(alone), together[[0, 17, 99]])
    few = render(glyphs, stream, [98, 5, 42, 7, 1], Factors())
    assert torch.equal(few, together[[98, 5, 42, 7, 1]])

    num_threads = torch.get_num_threads()
    torch.set_num_threads(num_threads + 2)
    try:
        assert torch.equal(render(glyphs, stream, range(100), Factors()), together)
    finally:
        torch.set_num_threads(num_threads)


@pytest.mark.slow
def test_streams_of_another_seed_or_name_are_other_pictures(glyphs: Tensor) -> None:
    streams = [Stream(0, "source"), Stream(1, "source"), Stream(0, "IID")]
    first, *others = (render(glyphs, stream, range(10), Factors()) for stream in streams)
    for other in others:
        assert (first != other).flatten(1).float().mean(1).min() > 0.5


class RecordingStream(Stream):
    """Remembers what was drawn for each purpose."""

    draws: dict[str, Tensor]

    def uniform(self, purpose: str, indices: Sequence[int], count: int) -> Tensor:
        return self._record(purpose, super().uniform(purpose, indices, count))

    def normal(self, purpose: str, indices: Sequence[int], shape: tuple[int, ...]) -> Tensor:
        return self._record(purpose, super().normal(purpose, indices, shape))

    def _record(self, purpose: str, draw: Tensor) -> Tensor:
        assert purpose not in self.draws, "each purpose draws once"
        self.draws[purpose] = draw
        return draw


def drawn(glyphs: Tensor, factors: Factors) -> dict[str, Tensor]:
    stream = RecordingStream(0, "source")
    object.__setattr__(stream, "draws", {})
    render(glyphs, stream, range(3), factors)
    return stream.draws


@pytest.mark.parametrize(
    "factor, purposes",
    [
        (Scale(randomize=False), {"scale"}),
        (Viewpoint(randomize=False), {"viewpoint"}),
        (Illumination(randomize=False), {"illumination"}),
        (
            Texture(randomize=False),
            {"shininess", "texture colours", "texture pattern", "texture clouds"},
        ),
        (
            Background(randomize=False),
            {"background colours", "background pattern", "background clouds"},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_fixing_one_factor_leaves_the_draws_of_all_others(
    glyphs: Tensor,
    factor: BaseConfig,
    purposes: set[str],
) -> None:
    name = type(factor).__name__.lower()
    before, after = drawn(glyphs, Factors()), drawn(glyphs, Factors.model_validate({name: factor}))
    assert before.keys() - after.keys() == purposes
    assert all(torch.equal(before[purpose], draw) for purpose, draw in after.items())


def test_draws_of_different_purposes_are_independent(glyphs: Tensor) -> None:
    firsts = [draw.flatten()[0].item() for draw in drawn(glyphs, Factors()).values()]
    assert len(set(firsts)) == len(firsts)


def test_pictures_show_the_digits_of_their_labels(glyphs: Tensor) -> None:
    factors = PLAIN.model_copy(update={"scale": Scale(randomize=False, fixed=1.0)})
    pictures = render(glyphs, Stream(0, "source"), range(100), factors).float().mean(1)
    shapes = torch.nn.functional.avg_pool2d(glyphs[:, :, 0], 2)
    likeness = (
        torch.nn.functional.normalize(pictures.flatten(1))
        @ torch.nn.functional.normalize(shapes.flatten(2), dim=2).flatten(0, 1).T
    )
    nearest = likeness.argmax(dim=1) % 10
    # Deformation hides some; a mirrored or shuffled one would leave a tenth.
    assert (nearest == torch.arange(100) % 10).float().mean() > 0.75


def test_every_font_has_ten_distinct_digits(glyphs: Tensor) -> None:
    assert glyphs.shape == (len(FONTS), 10, 2, 64, 64)
    assert glyphs.min() == 0 and glyphs.max() <= 1
    assert len({glyph.numpy().tobytes() for glyph in glyphs[:, :, 0].flatten(0, 1)}) == 190


@pytest.mark.slow
def test_twice_the_scale_covers_four_times_the_area(glyphs: Tensor) -> None:
    areas = [
        covered(
            render(
                glyphs,
                Stream(0, "s"),
                range(50),
                PLAIN.model_copy(update={"scale": Scale(randomize=False, fixed=size)}),
            )
        )
        .sum()
        .item()
        for size in (0.5, 1.0)
    ]
    assert areas[1] / areas[0] == pytest.approx(4, rel=0.2)


@pytest.mark.slow
def test_a_shifted_view_moves_the_digit(glyphs: Tensor) -> None:
    def centres(viewpoint: Viewpoint) -> Tensor:
        factors = PLAIN.model_copy(update={"viewpoint": viewpoint})
        mask = covered(render(glyphs, Stream(0, "s"), range(60), factors)).float()
        places = torch.arange(32) - 15.5
        return torch.stack(
            [(mask.sum(axis) * places).sum(1) / mask.sum((1, 2)) for axis in (1, 2)], dim=1
        )

    still = centres(Viewpoint(randomize=False))
    moved = centres(Viewpoint(azimuth_limit=0, elevation_limit=0, roll_limit=0, shift_limit=0.3))
    assert still.abs().mean() < 1.5
    # Uniform within ± 0.3 · 16 pixels: mean distance 2.4 on each axis.
    assert (moved - still).abs().mean() == pytest.approx(2.4, rel=0.2)


@pytest.mark.slow
def test_a_turn_by_the_azimuth_makes_the_digit_narrower(glyphs: Tensor) -> None:
    def extent(viewpoint: Viewpoint) -> Tensor:
        factors = PLAIN.model_copy(update={"viewpoint": viewpoint})
        mask = covered(render(glyphs, Stream(0, "s"), range(0, 600, 10), factors))
        return torch.stack([mask.any(1).sum(1), mask.any(2).sum(1)], dim=1).float().mean(0)

    turned = {"elevation_limit": 0.0, "roll_limit": 0.0, "shift_limit": 0.0}
    still = extent(Viewpoint(randomize=False))
    narrow = extent(Viewpoint.model_validate(turned | {"azimuth_limit": 80.0}))
    assert narrow[0] < 0.85 * still[0]
    assert narrow[1] > 0.93 * still[1]


def test_backgrounds_are_brighter_towards_the_light(glyphs: Tensor) -> None:
    illumination = Illumination(falloff_limits=(0.5, 0.5))
    factors = PLAIN.model_copy(
        update={"illumination": illumination, "background": Background(randomize=False)}
    )
    pictures = render(glyphs, Stream(0, "s"), range(50), factors).float().mean(1)
    right, down = draw_light(Stream(0, "s"), range(50), illumination).across
    gain_right = (pictures[:, :, -3:] - pictures[:, :, :3]).mean((1, 2))
    gain_down = (pictures[:, -3:] - pictures[:, :3]).mean((1, 2))
    assert torch.corrcoef(torch.stack([gain_right, right.flatten()]))[0, 1] > 0.9
    assert torch.corrcoef(torch.stack([gain_down, down.flatten()]))[0, 1] > 0.9


@pytest.mark.slow
def test_slopes_that_face_the_light_are_brighter(glyphs: Tensor) -> None:
    from_right, from_left = (
        render(
            glyphs,
            Stream(0, "s"),
            range(50),
            PLAIN.model_copy(
                update={
                    "illumination": Illumination(
                        randomize=False, fixed_direction=direction, fixed_elevation=0.6
                    )
                }
            ),
        )
        .float()
        .mean(1)
        for direction in (0.0, torch.pi)
    )
    height = from_right + from_left  # bright is where the digit is
    faces_right = (height[:, :, :-2] - height[:, :, 2:]).flatten()
    gain = (from_right - from_left)[:, :, 1:-1].flatten()
    assert torch.corrcoef(torch.stack([gain, faces_right]))[0, 1] > 0.5


@pytest.mark.slow
def test_a_fixed_texture_has_its_colour_and_a_random_one_many(glyphs: Tensor) -> None:
    def colours(texture: Texture) -> Tensor:
        pictures = render(
            glyphs, Stream(0, "s"), range(50), PLAIN.model_copy(update={"texture": texture})
        )
        mask = covered(pictures)[:, None]
        mean = (pictures * mask).float().sum((2, 3)) / mask.sum((2, 3))
        return mean / mean.sum(1, keepdim=True)

    green = colours(Texture(randomize=False, fixed_colour=(0.1, 0.8, 0.1), fixed_shininess=0))
    assert green.argmax(dim=1).tolist() == [1] * 50
    assert green.std(0).max() < 0.02
    assert colours(Texture()).std(0).min() > 0.1


@pytest.mark.slow
def test_a_plain_background_is_plain_and_a_random_one_is_not(glyphs: Tensor) -> None:
    def edges(background: Background) -> Tensor:
        factors = PLAIN.model_copy(update={"background": background})
        return border(render(glyphs, Stream(0, "s"), range(50), factors))

    grey = edges(Background(randomize=False))
    assert grey.mean((0, 2)).std() < 1 and grey.std() < 6  # the sensor's noise is 5.1
    assert edges(Background()).mean(2).std(0).min() > 30


@pytest.mark.parametrize("brightness, sign", [(0.2, 1), (0.8, -1)])
def test_objects_of_their_background_s_colour_are_made_to_stand_out(
    glyphs: Tensor,
    brightness: float,
    sign: int,
) -> None:
    colour = (brightness,) * 3
    factors = PLAIN.model_copy(
        update={
            "texture": Texture(randomize=False, fixed_colour=colour, fixed_shininess=0),
            "background": Background(randomize=False, fixed_colour=colour),
        }
    )
    pictures = render(glyphs, Stream(0, "s"), range(20), factors).float().mean(1)
    contrast = sign * (pictures - border(pictures[:, None]).mean((1, 2))[:, None, None])
    assert contrast.flatten(1).amax(1).min() > 0.2 * 255


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"scale": {"limits": [1.2, 0.5]}}, r"scale/limits: must be \[lowest, highest\]"),
        ({"scale": {"limits": [0.0, 0.5]}}, "scale/limits/0: must be greater than 0, got 0.0"),
        ({"background": {"fixed_colour": [0, 0, 2]}}, "background/fixed_colour/2"),
        ({"viewpoint": {"azimut_limit": 3.0}}, "Did you mean 'azimuth_limit'"),
        ({"texture": {"randomize": "no"}}, "texture/randomize"),
        ({"num_source": 19}, "num_source: must be greater than or equal to 20, got 19"),
        (
            {"target_long_tail": 0.5},
            "target_long_tail: must be greater than or equal to 1, got 0.5",
        ),
    ],
)
def test_invalid_settings_are_reported_at_their_place(
    settings: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(Digits.Config, settings)


def test_lists_from_yaml_stand_for_limits() -> None:
    config = validate(Digits.Config, {"scale": {"limits": [0.5, 1]}})
    assert config.scale.limits == (0.5, 1.0)
    assert validate(Digits.Config, config.model_dump(mode="json")) == config


# The task


def test_source_is_balanced_and_split_by_class(domains: Domains) -> None:
    assert domains.classes == tuple("0123456789")
    assert domains.source_train.labels.bincount().tolist() == [18] * 10
    assert domains.source_val.labels.bincount().tolist() == [2] * 10
    assert len(contents(domains.source_train) | contents(domains.source_val)) == 200


def test_digits_fill_the_crop_and_are_not_mirrored(domains: Domains) -> None:
    assert domains.geometry == Geometry(crop_size=32, resize_size=32, padding=4, mirror=False)
    assert domains.source_train.images[0].shape == (3, 32, 32)


def test_loading_again_gives_the_same_pictures(
    domains: Domains,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    again = load(tmp_path_factory.mktemp("other"))
    assert torch.equal(stack(again.source_train), stack(domains.source_train))
    assert torch.equal(stack(again.test_sets["IID"]), stack(domains.test_sets["IID"]))
    assert torch.equal(stack(again.target_train), stack(domains.target_train))


def test_another_seed_changes_pictures_but_not_the_target(cache: Path, domains: Domains) -> None:
    other = load(cache, seed=1)
    assert contents(other.source_train).isdisjoint(contents(domains.source_train))
    assert contents(other.test_sets["IID"]).isdisjoint(contents(domains.test_sets["IID"]))
    assert torch.equal(stack(other.target_train), stack(domains.target_train))
    assert torch.equal(
        stack(other.test_sets["target_test"]), stack(domains.test_sets["target_test"])
    )


def test_a_larger_source_begins_with_the_smaller(cache: Path, domains: Domains) -> None:
    larger = load(cache, num_source=300)
    small = contents(domains.source_train) | contents(domains.source_val)
    assert small < contents(larger.source_train) | contents(larger.source_val)


def test_test_pictures_are_not_in_the_source(domains: Domains) -> None:
    assert domains.test_sets["IID"].labels.bincount().tolist() == [4] * 10
    assert contents(domains.test_sets["IID"]).isdisjoint(contents(domains.source_train))


def test_pictures_without_background_are_the_iid_ones_on_black(
    cache: Path,
    domains: Domains,
) -> None:
    plain, full = domains.test_sets["IID_wo_BG"], domains.test_sets["IID"]
    assert torch.equal(plain.labels, full.labels)
    assert border(stack(plain)).mean() < 4  # half of the sensor's noise
    assert border(stack(plain)).quantile(0.95) < 16
    assert border(stack(full)).mean() > 60
    assert (covered(stack(plain)).sum((1, 2)) > 10).all()

    black = load(cache, background={"randomize": False, "fixed_colour": [0, 0, 0]}).test_sets
    assert torch.equal(stack(black["IID"]), stack(plain))


def test_sources_of_other_factors_may_be_measured_on_the_same_pictures(
    cache: Path,
    domains: Domains,
) -> None:
    other = load(cache, background={"randomize": False}, test_factors={})
    for name in ("IID", "IID_wo_BG"):
        assert torch.equal(stack(other.test_sets[name]), stack(domains.test_sets[name]))
    assert not torch.equal(stack(other.source_val), stack(domains.source_val))


def test_scans_are_split_into_fixed_disjoint_stratified_sets(domains: Domains) -> None:
    assert domains.target_val is not None
    sets = [domains.target_train, domains.target_val, domains.test_sets["target_test"]]
    assert [len(images or ()) for images in sets] == [898, 300, 599]
    assert len(set[bytes]().union(*(contents(images) for images in sets))) == 1797
    assert domains.target_val.labels.bincount().tolist() == [
        30,
        30,
        30,
        31,
        30,
        30,
        30,
        30,
        29,
        30,
    ]
    assert domains.test_sets["target_test"].labels.bincount().tolist() == [
        59,
        61,
        59,
        61,
        60,
        61,
        60,
        60,
        58,
        60,
    ]


def test_scans_keep_their_labels(domains: Domains) -> None:
    val, test = domains.target_val, domains.test_sets["target_test"]
    assert val is not None
    prototypes = torch.stack(
        [stack(val)[val.labels == k].float().mean(0) for k in range(10)]
    ).flatten(1)
    nearest = torch.cdist(stack(test).float().flatten(1), prototypes).argmin(dim=1)
    assert (nearest == test.labels).float().mean() > 0.8


def test_scans_are_grey_with_a_black_margin(domains: Domains) -> None:
    scans = stack(domains.target_train)
    assert scans.shape == (898, 3, 32, 32)
    assert torch.equal(scans[:, 0], scans[:, 1]) and torch.equal(scans[:, 0], scans[:, 2])
    assert scans[:, :, 3:-3, 3:-3].sum() == scans.sum() > 0


def test_a_long_tail_thins_out_the_target_and_nothing_else(cache: Path, domains: Domains) -> None:
    whole = domains.target_train
    tenth, hundredth = (load(cache, target_long_tail=ratio) for ratio in (10.0, 100.0))
    assert whole is not None and tenth.target_train is not None
    labels = digits_module._target(10.0, cache)[0].labels  # out of reach in the domains
    counts = labels.bincount().tolist()
    assert len(tenth.target_train) == sum(counts)
    assert counts[0] == 89 and counts[9] == 9  # of 89 and 90
    ratios = [later / earlier for earlier, later in zip(counts, counts[1:], strict=False)]
    assert all(ratio == pytest.approx(10 ** (-1 / 9), rel=0.15) for ratio in ratios)
    assert contents(hundredth.target_train) < contents(tenth.target_train) < contents(whole)
    assert torch.equal(
        stack(tenth.test_sets["target_test"]), stack(domains.test_sets["target_test"])
    )


@pytest.mark.slow
def test_non_repetitive_pictures_are_the_stored_ones_and_never_repeat(
    cache: Path,
    domains: Domains,
) -> None:
    endless = load(cache, repeat=False)
    assert torch.equal(endless.source_train.labels, domains.source_train.labels)
    assert torch.equal(stack(endless.source_train), stack(domains.source_train))
    assert len(contents(endless.source_train)) == 180
    assert torch.equal(stack(endless.source_val), stack(domains.source_val))


def test_a_million_non_repetitive_pictures_cost_nothing_until_asked_for(cache: Path) -> None:
    endless = load(cache, repeat=False, num_source=1_000_000, holdout=0.00002)
    assert len(endless.source_train) == 999_980
    first, last = endless.source_train.images[0], endless.source_train.images[999_979]
    assert first.shape == last.shape == (3, 32, 32)


# The cache


def test_what_is_cached_is_not_rendered_again(
    cache: Path,
    domains: Domains,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> Tensor:
        raise AssertionError("rendered")

    monkeypatch.setattr(digits_module, "render", refuse)
    assert torch.equal(stack(load(cache).source_train), stack(domains.source_train))
    # The target's settings have no part in the source's identity.
    load(cache, target_long_tail=2.0)
    for change in ({"seed": 5}, {"num_source": 210}, {"scale": {"fixed": 1.0}}, {"holdout": 0.2}):
        with pytest.raises(AssertionError, match="rendered"):
            load(cache, **change)
    monkeypatch.setattr(digits_module, "RENDERER_VERSION", 2)
    with pytest.raises(AssertionError, match="rendered"):
        load(cache)


def test_rendering_in_advance_takes_one_thread_and_gives_the_others_back(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = set()

    def spy(*arguments: Any) -> Tensor:
        seen.add(torch.get_num_threads())
        return render(*arguments)

    monkeypatch.setattr(digits_module, "render", spy)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        load(tmp_path, num_source=20, num_test=10)
        assert seen == {1} and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(num_threads)


PROCESS = """
import runpy, sys, time
from pathlib import Path
import numpy as np

# By its path: importing the package takes torch, and that takes seconds.
cached_array = runpy.run_path(sys.argv[1])["cached_array"]
folder = Path(sys.argv[2])

def make():
    with (folder / "calls").open("a") as calls:
        calls.write("x")
    time.sleep(0.5)
    return np.arange(5)

(folder / sys.argv[3]).touch()
while not ((folder / "a").exists() and (folder / "b").exists()):
    time.sleep(0.01)
assert cached_array(folder, "five", {}, make).tolist() == [0, 1, 2, 3, 4]
"""


@pytest.mark.slow
def test_two_processes_make_an_array_once(tmp_path: Path) -> None:
    module = cached_array.__code__.co_filename
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, module, str(tmp_path), name])
        for name in "ab"
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert (tmp_path / "calls").read_text() == "x"


def test_an_interrupted_rendering_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> NDArray[np.int64]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_array(tmp_path, "five", {}, fail)
    assert not list(tmp_path.glob("*.npy"))


def test_a_damaged_cache_file_is_named(tmp_path: Path) -> None:
    cached_array(tmp_path, "five", {}, lambda: np.arange(5))
    (path,) = tmp_path.glob("five-*.npy")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=f"{path}: must be an array.*Delete it"):
        cached_array(tmp_path, "five", {}, lambda: np.arange(5))
