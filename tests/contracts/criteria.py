"""What every criterion must keep to."""

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.contracts.common import check_config
from tests.support.evaluations import NUM_CLASSES, an_evaluation, blobs, collapsed
from trainables.criteria import (
    Criterion,
    Evaluation,
    LabelReadingCriterion,
    OracleEvaluation,
    Predictions,
)
from trainables.criteria.base import CriterionConfig
from trainables.data.evaluation import Mixtures
from trainables.runtime.randomness import generator

TOLERANCE = 1e-5


class CriterionContract:
    """Tests that every :class:`~trainables.criteria.Criterion` must pass.

    They score a classifier of four classes on 60 source and 90 target images.
    """

    criterion: ClassVar[type[Criterion] | type[LabelReadingCriterion]]
    """The criterion under test."""
    prefers_right_predictions: ClassVar[bool] = True
    """Whether a classifier that is right and certain about every image scores above one that
    finds all classes equally likely. Only a criterion known to be misled by the latter says no."""

    def test_settings_are_strict_documented_and_stored_without_loss(self) -> None:
        check_config(self.criterion, CriterionConfig, {})

    @pytest.mark.parametrize("same_features", [False, True])
    @pytest.mark.parametrize("collapse", [None, "certain", "uniform"])
    def test_scores_are_finite_and_not_below_their_bound(
        self, collapse: str | None, same_features: bool
    ) -> None:
        evaluation = an_evaluation()
        if collapse is not None:
            certain = torch.tensor([1e4, 0.0, -1e4, 0.0])
            logits = certain if collapse == "certain" else torch.zeros(NUM_CLASSES)
            evaluation = collapsed(evaluation, logits, same_features)
        value, bound = self._score(evaluation), self.criterion().lower_bound(NUM_CLASSES)
        assert math.isfinite(value), f"A score must be finite, got {value}."
        assert value >= bound, f"A score must not be below lower_bound, got {value} < {bound}."

    def test_scores_are_equal_each_time(self) -> None:
        first = self._score(an_evaluation())
        torch.rand(7)
        assert self._score(an_evaluation()) == first, (
            "A score must not depend on the state of torch's generator: draw from "
            "trainables.runtime.randomness.generator(0, …)."
        )

    def test_the_evaluation_stays_unchanged(self) -> None:
        evaluation, before = an_evaluation(), an_evaluation()
        self._score(evaluation)
        changed = [
            name
            for (name, value), (_, original) in zip(
                _tensors(evaluation), _tensors(before), strict=True
            )
            if not torch.equal(value, original)
        ]
        assert not changed, f"A score must not change what it is given, but changes {changed}."

    def test_the_order_of_images_does_not_matter(self) -> None:
        evaluation = an_evaluation()
        source, target, labelled = (
            torch.randperm(n, generator=generator(1, "order", n)) for n in (60, 90, 40)
        )

        def permuted(predictions: Predictions, order: Tensor) -> Predictions:
            return Predictions(predictions.logits[order], predictions.features[order])

        places, mixtures = target.argsort(), evaluation.mixtures
        other = OracleEvaluation(
            permuted(evaluation.source, source),
            evaluation.source_labels[source],
            permuted(evaluation.target, target),
            Mixtures(places[mixtures.first], places[mixtures.second], mixtures.logits),
            evaluation.class_weights,
            permuted(evaluation.target_val, labelled),
            evaluation.target_val_labels[labelled],
        )
        self._assert_equal_scores(
            evaluation, other, "A score must not depend on the order of images"
        )

    def test_a_constant_for_each_image_does_not_matter(self) -> None:
        def shifted(predictions: Predictions) -> Predictions:
            constants = torch.linspace(-5, 7, len(predictions.logits))[:, None]  # mean not 0
            return replace(predictions, logits=predictions.logits + constants)

        evaluation = an_evaluation()
        mixtures = evaluation.mixtures
        other = replace(
            evaluation,
            source=shifted(evaluation.source),
            target=shifted(evaluation.target),
            mixtures=replace(mixtures, logits=mixtures.logits - 3),
            target_val=shifted(evaluation.target_val),
        )
        self._assert_equal_scores(
            evaluation, other, "A score must not depend on a constant that softmax removes"
        )

    def test_only_a_criterion_that_declares_it_reads_target_labels(self) -> None:
        evaluation = an_evaluation()
        if self.criterion.reads_target_labels:
            assert issubclass(self.criterion, LabelReadingCriterion), (
                "A criterion that reads target labels must derive from LabelReadingCriterion."
            )
            return
        plain = Evaluation(**{f.name: getattr(evaluation, f.name) for f in fields(Evaluation)})
        message = "A criterion must not read target labels"
        try:
            expected = self.criterion().score(plain)
        except AttributeError as error:
            raise AssertionError(f"{message}: {error}.") from error
        labels = (evaluation.target_val_labels + 1) % NUM_CLASSES
        for labelled in (evaluation, replace(evaluation, target_val_labels=labels)):
            assert self.criterion().score(labelled) == expected, (
                f"{message}, but its score differs where there are any."
            )

    def test_a_larger_score_is_better(self) -> None:
        evaluation = an_evaluation()
        right = replace(
            evaluation,
            source=_certain(evaluation.source, evaluation.source_labels),
            target=_certain(evaluation.target, blobs("target", 90, 0.4)[1]),
            target_val=_certain(evaluation.target_val, evaluation.target_val_labels),
        )
        classes = right.target.logits.argmax(dim=1)
        mixtures = right.mixtures
        right = replace(right, mixtures=replace(mixtures, logits=_logits(classes[mixtures.first])))
        uniform = collapsed(evaluation, torch.zeros(NUM_CLASSES), same_features=False)
        better, worse = self._score(right), self._score(uniform)
        assert (better > worse) == self.prefers_right_predictions, (
            f"A classifier that is right and certain scores {better}, one that finds all classes "
            f"equally likely {worse}. Larger scores are better: negate a loss, or set "
            f"prefers_right_predictions = {not self.prefers_right_predictions} and say why."
        )

    def _score(self, evaluation: OracleEvaluation) -> float:
        value = self.criterion().score(evaluation)
        assert isinstance(value, float), f"A score must be a float, got {type(value).__name__}."
        return value

    def _assert_equal_scores(
        self, first: OracleEvaluation, second: OracleEvaluation, message: str
    ) -> None:
        one, other = self._score(first), self._score(second)
        assert math.isclose(one, other, rel_tol=0, abs_tol=TOLERANCE), (
            f"{message}, got {one} and {other}."
        )


def _logits(classes: Tensor) -> Tensor:
    return 9.0 * F.one_hot(classes, NUM_CLASSES)


def _certain(predictions: Predictions, classes: Tensor) -> Predictions:
    return Predictions(_logits(classes), predictions.features)


def _tensors(value: object, name: str = "evaluation") -> Iterator[tuple[str, Tensor]]:
    """Yield all tensors of a dataclass with their places."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, tuple):
        for position, item in enumerate(value):
            yield from _tensors(item, f"{name}[{position}]")
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name), f"{name}.{field.name}")
