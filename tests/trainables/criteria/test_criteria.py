"""Selection criteria: hand-computed cases and what must not change a score."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.evaluations import DIM, NUM_CLASSES, an_evaluation, collapsed
from trainables.criteria import CRITERIA
from trainables.criteria._density_ratio import density_ratio
from trainables.criteria._dev_risk import weighted_risk
from trainables.criteria.class_confusion import class_confusion
from trainables.criteria.snd import soft_neighbourhood_density
from trainables.criteria.transfer_score import angle_deviation, hopkins_statistic
from trainables.data.evaluation import Mixtures, OracleEvaluation, Predictions
from trainables.data.mixing_pairs import probing_pairs
from trainables.runtime.randomness import generator

NAMES = sorted(CRITERIA)
EVALUATION = an_evaluation()


def score(name: str, evaluation: OracleEvaluation = EVALUATION) -> float:
    return CRITERIA[name]().score(evaluation)


# Soft neighbourhood density


def test_density_by_hand() -> None:
    """Two samples alike and one across: each alike has one neighbour near and one far."""
    near = 1 / (1 + math.exp(-20))  # cosines 1 and 0, divided by 0.05
    alike = -near * math.log(near) - (1 - near) * math.log(1 - near)
    density = soft_neighbourhood_density(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert float(density) == pytest.approx((2 * alike + math.log(2)) / 3, abs=1e-6)


@pytest.mark.parametrize("chunk_size", [1, 7, 89])
def test_density_does_not_depend_on_the_chunk(chunk_size: int) -> None:
    probabilities = EVALUATION.target.logits.softmax(dim=1)
    assert float(soft_neighbourhood_density(probabilities, chunk_size)) == pytest.approx(
        float(soft_neighbourhood_density(probabilities)), abs=1e-5
    )


# Deep embedded validation


def test_risk_by_hand() -> None:
    # wL = 1, 0, 6: mean 7/3; cov(wL, w) = 5/3, var(w) = 2/3, so eta = -5/2, and mean(w) = 2
    risk = weighted_risk(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 0.0, 2.0]))
    assert risk == pytest.approx(7 / 3 - 5 / 2 * 2 + 5 / 2)


def test_risk_is_the_weighted_mean_where_weights_have_mean_one() -> None:
    weights, losses = torch.tensor([0.5, 1.5, 1.0]), torch.tensor([4.0, 0.0, 1.0])
    assert weighted_risk(weights, losses) == pytest.approx(1.0)
    assert weighted_risk(torch.ones(3), losses) == pytest.approx(5 / 3)


def test_ratio_of_two_gaussians() -> None:
    """N(0, 1) and N(1, 1): the logarithm of the ratio is x - 1/2."""
    rng = generator(0, "gaussians")
    source = torch.randn(3000, 1, generator=rng)
    target = 1 + torch.randn(2000, 1, generator=rng)
    ratio = density_ratio(source, target)
    expected = (source[:, 0] - 0.5).double()
    assert torch.corrcoef(torch.stack([ratio.log(), expected]))[0, 1] > 0.99
    slope = float(ratio.log().std() / expected.std())
    assert 0.6 < slope < 1  # the weight decay makes it flatter
    assert float(ratio[source[:, 0].sub(0.5).abs() < 0.1].mean()) == pytest.approx(1, abs=0.1)


def test_a_sample_is_not_judged_by_a_classifier_that_has_seen_it() -> None:
    """In many dimensions a classifier knows what it has seen; fresh samples it finds alike."""
    rng = generator(0, "many dimensions")
    source, target = torch.randn(60, 400, generator=rng), torch.randn(60, 400, generator=rng)
    assert float(density_ratio(source, target).log().mean()) == pytest.approx(0, abs=0.3)


@pytest.mark.parametrize("name", ["dev", "devn"])
def test_only_images_like_the_target_s_count(name: str) -> None:
    """Right where the first feature is high, wrong where it is low."""
    rng = generator(0, "sides")
    side = torch.arange(200) % 2
    features = torch.randn(200, 2, generator=rng)
    features[:, 0] += 4.0 * side - 2
    confident = 4.0 * (2 * side - 1)
    source = Predictions(torch.stack([confident, -confident], dim=1).float(), features)
    labels = torch.zeros(200, dtype=torch.int64)
    scores = []
    for place in (-2.0, 2.0):
        target = torch.randn(150, 2, generator=rng) + torch.tensor([place, 0.0])
        scores.append(
            score(
                name,
                replace(
                    EVALUATION,
                    source=source,
                    source_labels=labels,
                    target=Predictions(target, target),
                ),
            )
        )
    assert scores[1] > scores[0] + 1


@pytest.mark.parametrize("name", ["dev", "devn"])
def test_where_domains_are_alike_the_risk_is_the_source_s(name: str) -> None:
    source = replace(EVALUATION.source, features=torch.ones_like(EVALUATION.source.features))
    target = replace(EVALUATION.target, features=torch.ones_like(EVALUATION.target.features))
    loss = torch.nn.functional.cross_entropy(source.logits, EVALUATION.source_labels)
    assert score(name, replace(EVALUATION, source=source, target=target)) == pytest.approx(
        -float(loss), abs=1e-3
    )


def test_normalised_weights_are_at_most_one() -> None:
    """The same formula by numpy, whose covariances divide by N - 1."""
    weights = density_ratio(EVALUATION.source.features, EVALUATION.target.features).numpy()
    losses = torch.nn.functional.cross_entropy(
        EVALUATION.source.logits.double(), EVALUATION.source_labels, reduction="none"
    ).numpy()
    for name, v in (("dev", weights), ("devn", weights / weights.max())):
        covariance = np.cov(v * losses, v)
        eta = -covariance[0, 1] / covariance[1, 1]
        assert score(name) == pytest.approx(-(np.mean(v * losses) + eta * np.mean(v) - eta))


# Classes and clusters


def test_predictions_that_are_the_clusters_score_one() -> None:
    labels = torch.arange(90) % NUM_CLASSES
    directions = torch.eye(NUM_CLASSES, DIM)
    noise = 0.01 * torch.randn(90, DIM, generator=generator(0, "noise"))
    lengths = torch.linspace(1, 9, 90)[:, None]  # directions count, lengths do not
    features = lengths * (directions[labels] + noise)
    logits = directions[labels][:, :NUM_CLASSES].roll(1, dims=1)  # nor do the clusters' names
    agreeing = replace(EVALUATION, target=Predictions(logits, features))
    assert score("class_ami", agreeing) == pytest.approx(1)
    strange = torch.eye(NUM_CLASSES)[
        torch.randint(NUM_CLASSES, (90,), generator=generator(0, "strange"))
    ]
    assert (
        abs(score("class_ami", replace(EVALUATION, target=Predictions(strange, features)))) < 0.1
    )


# Class confusion


def test_confusion_by_hand() -> None:
    uncertain = torch.zeros(5, 2)  # every entry of the matrix is 1/2
    assert float(class_confusion(uncertain)) == pytest.approx(0.5)
    certain = 1e4 * torch.eye(3)[torch.tensor([0, 1, 1, 2])]
    assert float(class_confusion(certain)) == pytest.approx(0, abs=1e-6)


def test_confusion_sample_by_sample() -> None:
    logits = EVALUATION.target.logits[:7].double()
    rows = [(row / 2.5).softmax(dim=0) for row in logits]
    certainties = [1 + math.exp(float((p * p.log()).sum())) for p in rows]
    weights = [7 * c / sum(certainties) for c in certainties]
    matrix = torch.stack([w * torch.outer(p, p) for w, p in zip(weights, rows, strict=True)]).sum(
        dim=0
    )
    shares = [
        matrix[i, j] / matrix[i].sum()
        for i in range(NUM_CLASSES)
        for j in range(NUM_CLASSES)
        if i != j
    ]
    assert float(class_confusion(logits)) == pytest.approx(float(sum(shares)) / NUM_CLASSES)


# Mixtures


def test_rates_of_both_kinds_are_averaged() -> None:
    """Within: 1 of 2 right. Across: 2 of 3, and calling it the smaller part is wrong."""
    classes = torch.tensor([0, 0, 1])
    first, second = torch.tensor([0, 1, 0, 2, 1]), torch.tensor([1, 0, 2, 1, 2])
    answers = torch.tensor([0, 1, 0, 1, 1])
    evaluation = replace(
        EVALUATION,
        target=Predictions(torch.eye(2)[classes], torch.eye(2)[classes]),
        mixtures=Mixtures(first, second, torch.eye(2)[answers]),
    )
    assert score("mixval", evaluation) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_one_class_for_everything_scores_half_at_most() -> None:
    assert score("mixval", collapsed(EVALUATION, torch.tensor([9.0, 0.0, 0.0, 0.0]), True)) == 0.5


def test_pairs_are_within_classes_and_across() -> None:
    classes = torch.randint(5, (200,), generator=generator(0, "classes"))
    first, second = probing_pairs(classes, 40)
    same = classes[first] == classes[second]
    assert same[:40].all() and not same[40:].any() and len(first) == 80
    assert (first != second).all()
    assert len({*zip(first.tolist(), second.tolist(), strict=True)}) == 80


def test_pairs_are_the_same_each_time() -> None:
    classes = torch.arange(50) % 3
    for one, other in zip(probing_pairs(classes), probing_pairs(classes), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "classes, number", [([0], 0), ([0, 1], 2), ([0, 0], 2), ([3, 3, 3, 1], 3 + 2), ([], 0)]
)
def test_pairs_of_few_samples(classes: list[int], number: int) -> None:
    """Two alike: either is the larger part once. One beside three: no partner of its own."""
    first, second = probing_pairs(torch.tensor(classes, dtype=torch.int64))
    assert len(first) == len(second) == number


# Transfer score


def test_clustered_points_and_uniform_ones() -> None:
    rng = generator(0, "points")
    uniform = torch.rand(400, 3, generator=rng)
    noise = 1e-3 * torch.randn(300, 3, generator=rng, dtype=torch.float64)
    clusters = torch.eye(3, dtype=torch.float64)[torch.arange(300) % 3] + noise
    assert hopkins_statistic(uniform) == pytest.approx(0.5, abs=0.05)
    assert hopkins_statistic(clusters) > 0.99
    assert hopkins_statistic(7 * clusters) == pytest.approx(hopkins_statistic(clusters))
    assert hopkins_statistic(torch.ones(5, 2)) == 0


def test_hopkins_statistic_by_hand() -> None:
    """Points 0, 1 and 3 on a line: distances 1, 1 and 2 to the nearest other one."""
    points = torch.tensor([[0.0], [1.0], [3.0]])
    draws = [3 * float(u) for u in torch.rand(3, 1, generator=generator(0, "hopkins"))]
    strangers = sum(min(abs(u - p) for p in (0, 1, 3)) for u in draws)
    assert hopkins_statistic(points) == pytest.approx(strangers / (strangers + 4))


@pytest.mark.parametrize("chunk_size", [1, 7, 89])
def test_hopkins_statistic_does_not_depend_on_the_chunk(chunk_size: int) -> None:
    features = EVALUATION.target.features.double()
    assert hopkins_statistic(features, chunk_size) == pytest.approx(hopkins_statistic(features))


def test_angles_by_hand() -> None:
    third = 2 * math.pi / 3
    simplex = torch.tensor([[math.cos(i * third), math.sin(i * third)] for i in range(3)])
    lengths = torch.tensor([[1.0], [5.0], [0.1]])
    assert angle_deviation(lengths * simplex) == pytest.approx(0, abs=1e-6)
    assert angle_deviation(torch.eye(2)) == pytest.approx((math.pi / 2) ** 2)
    assert angle_deviation(torch.ones(2, 3)) == pytest.approx(math.pi**2, rel=1e-3)
    assert angle_deviation(torch.eye(3)) == pytest.approx((third - math.pi / 2) ** 2)


def test_transfer_score_is_the_sum_of_its_parts() -> None:
    heads = (torch.eye(NUM_CLASSES), torch.ones(NUM_CLASSES, 2))
    evaluation = replace(EVALUATION, class_weights=heads)
    deviation = (angle_deviation(heads[0]) + angle_deviation(heads[1])) / 2
    assert score("transfer_score", evaluation) == pytest.approx(
        hopkins_statistic(EVALUATION.target.features.double())
        + score("information_maximization") / math.log(NUM_CLASSES)
        - deviation
    )


# The documentation


DOCUMENTATION = (Path(__file__).parents[3] / "docs" / "criteria.md").read_text()


def test_the_documentation_lists_every_criterion() -> None:
    assert sorted(re.findall(r"^\| `(\w+)` \|", DOCUMENTATION, re.MULTILINE)) == NAMES


def test_the_documentation_s_own_criterion_scores() -> None:
    block, _ = re.findall(r"```python\n(.*?)```", DOCUMENTATION, re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    criterion = names["Confidence"]()
    expected = EVALUATION.target.logits.softmax(dim=1).max(dim=1).values.mean()
    assert criterion.score(EVALUATION) == pytest.approx(float(expected))
    assert criterion.lower_bound(4) == 0.25
