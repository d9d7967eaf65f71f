"""What a method must equal when its own terms are off, and what each term reaches."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.support.tiny_methods import (
    BACKBONE_RATE,
    NUM_CLASSES,
    WEIGHT_DECAY,
    TinyData,
    tiny_backbone,
    tiny_method,
)
from trainables.data.batch import Batch
from trainables.methods import SRDC, Method
from trainables.runtime.randomness import seed_everything


def plain(case: str, **settings: object) -> Method:
    """Without dropout, batch normalisation of the trunk, and clipping of gradients (whose norm a
    head that only one of two methods has would change)."""
    seed_everything(0, "backbone")
    return tiny_method(case, tiny_backbone(), clip_norm=None, **settings)


def step(method: Method, progress: float, batch: Batch | None = None) -> dict[str, Tensor]:
    """Takes one step; gives the parameters after it."""
    seed_everything(0, "step")
    method.update(batch or TinyData().batch(0), progress)
    return {name: p.detach().clone() for name, p in method.networks.named_parameters()}


def differing(first: dict[str, Tensor], second: dict[str, Tensor]) -> set[str]:
    """The modules whose parameters are not the same."""
    return {
        name.split(".")[0]
        for name, value in first.items()
        if not torch.allclose(second[name], value, rtol=0, atol=1e-7)
    }


@pytest.mark.parametrize(
    "case, settings, progress",
    [
        ("dann", {"domain_weight": 0.0}, 0.5),
        ("rca", {"balance_weight": 0.0}, 0.0),
        ("rca", {"balance_weight": 0.0, "adaptation_weight": 0.0}, 0.5),
        ("rca", {"balance_weight": 0.0, "vat": {"weight": 0.0}}, 0.0),
        ("disclusterda", {"balance_weight": 0.0}, 0.0),
        ("disclusterda", {"balance_weight": 0.0, "adaptation_weight": 0.0}, 0.5),
    ],
)
def test_without_its_terms_takes_the_no_adaptation_step(
    case: str, settings: dict[str, object], progress: float
) -> None:
    method, reference = plain(case, **settings), plain("no_adaptation")
    heads = [each.networks.get_submodule("classifier") for each in (method, reference)]
    heads[0].load_state_dict(heads[1].state_dict())
    expected, actual = step(reference, progress), step(method, progress)
    assert not differing(expected, actual)


def test_supervised_is_no_adaptation() -> None:
    assert not differing(step(plain("supervised"), 0.5), step(plain("no_adaptation"), 0.5))


def test_mcd_without_discrepancy_only_decays_the_generator_in_step_c() -> None:
    after = [
        step(plain("mcd", discrepancy_weight=0.0, num_generator_steps=n), 0.5) for n in (1, 4)
    ]
    decay = (1 - BACKBONE_RATE * WEIGHT_DECAY) ** 3
    for name, value in after[0].items():
        shrunk = value * (decay if name.startswith("backbone") else 1)
        torch.testing.assert_close(after[1][name], shrunk, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "setting, moved", [("balance_weight", {"classifier"}), ("entropy_weight", {"backbone"})]
)
def test_rca_routes_each_term_to_one_side(setting: str, moved: set[str]) -> None:
    assert (
        differing(
            step(plain("rca", **{setting: 0.0}), 0.5), step(plain("rca", **{setting: 3.0}), 0.5)
        )
        == moved
    )


def test_rca_virtual_adversarial_training_moves_both_sides_but_not_the_joint_head() -> None:
    assert differing(step(plain("rca"), 0.5), step(plain("rca_vat"), 0.5)) == {
        "backbone",
        "classifier",
    }


def srdc(epoch: int, **settings: object) -> SRDC:
    method = plain("srdc", **settings)
    assert isinstance(method, SRDC)
    method.begin_epoch(TinyData().views(), epoch)
    return method


def test_srdc_uses_cluster_labels_alone_in_the_first_epoch() -> None:
    assert not differing(step(srdc(0, beta=0.2), 0.0), step(srdc(0, beta=0.9), 0.0))
    assert differing(step(srdc(1, beta=0.2), 0.3), step(srdc(1, beta=0.9), 0.3))


def test_srdc_with_full_beta_ignores_cluster_labels_after_the_first_epoch() -> None:
    for epoch, ignored in ((0, False), (1, True)):
        method, relabelled = srdc(epoch), srdc(epoch)
        relabelled.memory.target_labels = (method.memory.target_labels + 1) % NUM_CLASSES
        assert bool(differing(step(method, 0.3), step(relabelled, 0.3))) != ignored


def test_srdc_adapts_at_full_weight_in_the_first_epoch_and_by_the_ramp_later() -> None:
    data = TinyData()
    batch = data.batch(0)
    other = replace(batch, target_images=batch.target_images.flip(1))
    assert differing(step(srdc(0), 0.0, batch), step(srdc(0), 0.0, other))
    assert not differing(step(srdc(1), 0.0, batch), step(srdc(1), 0.0, other))
    assert differing(step(srdc(1), 0.5, batch), step(srdc(1), 0.5, other))


def test_srdc_mixes_source_weights_in_with_the_ramp() -> None:
    none, soft, mixed = (
        lambda progress, selection=selection: step(srdc(1, source_selection=selection), progress)
        for selection in ("none", "soft", "soft_mixed")
    )
    assert not differing(mixed(0.0), none(0.0))
    assert differing(mixed(0.1), none(0.1)) and differing(mixed(0.1), soft(0.1))
    assert not differing(mixed(5.0), soft(5.0))  # where the ramp has reached 1


def test_srdc_detached_distribution_has_the_same_value_and_another_gradient() -> None:
    losses = []
    states = []
    for detach in (False, True):
        method = srdc(1, detach_auxiliary=detach)
        losses.append(method.update(TinyData().batch(0), 0.5))
        states.append(dict(method.networks.named_parameters()))
    assert losses[0] == losses[1]
    assert differing(*states)


def test_srdc_hard_selection_keeps_some_of_each_class_and_weighs_them_1() -> None:
    data = TinyData()
    weights = srdc(3, source_selection="hard").memory.source_weights
    assert weights.unique().tolist() == [0.0, 1.0]
    kept = data.source_labels[weights.bool()]
    assert kept.unique().tolist() == list(range(NUM_CLASSES))
    assert not len(srdc(0, source_selection="hard").memory.source_weights)


@pytest.mark.parametrize("case", ["srdc", "disclusterda"])
def test_consistency_asks_for_second_views(case: str) -> None:
    assert not plain(case).needs_target_views
    method = plain(case, consistency_weight=1.0)
    assert method.needs_target_views
    method.begin_epoch(TinyData().views(), 0)
    with pytest.raises(AssertionError, match="needs_target_views"):
        step(method, 0.5, replace(TinyData().batch(0), target_views=None))


def test_disclusterda_textbook_form_differs_in_one_term() -> None:
    first, second = (
        plain("disclusterda", softmax_twice=twice).update(TinyData().batch(0), 0.5)
        for twice in (True, False)
    )
    assert {name for name in first if first[name] != second[name]} == {"source_to_centroids"}
    assert first["source_to_centroids"] > second["source_to_centroids"]
