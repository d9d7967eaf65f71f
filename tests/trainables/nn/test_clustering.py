"""What the recorded cases of functions.npz leave open."""

import math

import pytest
import torch

from trainables.nn import clustering
from trainables.nn.losses import squared_distances
from trainables.runtime.randomness import generator


def test_kernel_kmeans_does_not_depend_on_the_size_of_slices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features = torch.randn(50, 4, generator=generator(0, "features"), dtype=torch.float64)
    labels = torch.arange(50) % 3
    whole = clustering.kernel_kmeans(features, labels, 3, 5)
    monkeypatch.setattr(clustering, "_KERNEL_ENTRIES", 50 * 7)
    sliced = clustering.kernel_kmeans(features, labels, 3, 5)
    assert torch.equal(whole[0], sliced[0]) and not torch.equal(whole[0], labels)
    torch.testing.assert_close(whole[1], sliced[1])


def test_empty_cluster_has_a_zero_centre() -> None:
    centres = clustering.cluster_centres(torch.ones(4, 2), torch.tensor([0, 0, 2, 2]), 3)
    torch.testing.assert_close(centres, torch.tensor([[1.0, 1], [0, 0], [1, 1]]))


def test_hard_selection_starts_afresh_in_each_class() -> None:
    weights = torch.tensor([0.2, 0.1, 0.5, 0.45, 0.9, 0.1])
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    kept = clustering.select_confident(weights, labels, 0.49, torch.zeros(4))
    # Class 0 lowers its own threshold to 0.19, and nobody else's.
    assert kept.tolist() == [True, False, True, False, True, False]


def test_hard_selection_discounts_uncertain_classes() -> None:
    weights, labels = torch.tensor([0.5, 0.42, 0.5, 0.42]), torch.tensor([0, 0, 1, 1])
    kept = clustering.select_confident(weights, labels, 0.49, torch.tensor([0.0, 0.1]))
    assert kept.tolist() == [True, False, True, True]


def test_discounts_count_predictors_that_are_uncertain() -> None:
    sure = torch.eye(4)[[0, 1, 2]]
    unsure = 0.4 * torch.eye(4)[[0, 1, 2]] + 0.15
    mixed = torch.stack([sure[0], sure[1], unsure[2]])
    discounts = clustering.uncertainty_discounts(
        torch.stack([sure[0], unsure[1], unsure[2]]), mixed
    )
    # Certain by both; by one; by none; class 3 without samples.
    torch.testing.assert_close(discounts, torch.tensor([0.0, 0.05, 0.1, 0.05]))


def test_selection_threshold_is_a_sigmoid_of_the_epoch() -> None:
    assert clustering.selection_threshold(0) == 0.49
    assert clustering.selection_threshold(2) == pytest.approx(math.e / (1 + math.e) - 0.01)


def test_squared_distances_have_a_gradient_at_zero() -> None:
    points = torch.zeros(2, 3, requires_grad=True)
    squared_distances(points, torch.zeros(1, 3)).sum().backward()
    assert torch.equal(points.grad, torch.zeros(2, 3))
