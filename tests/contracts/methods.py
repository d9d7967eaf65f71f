"""What every method must keep to."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from tests.contracts.common import check_config
from tests.contracts.workers import run_on_workers
from tests.support.tiny_methods import (
    FEATURE_DIM,
    NUM_CLASSES,
    TRANSFORMERS,
    TinyData,
    build_method,
    share_of,
    tiny_backbone,
)
from trainables.data.batch import Batch, EpochViews
from trainables.methods import Method, MethodConfig, Prediction, Runtime
from trainables.runtime.randomness import generator, seed_everything
from trainables.training.accumulation import GradientAccumulation

STEPS_PER_EPOCH = 2
PARITY_STEPS = 3
LAST_STEPS = 6

Losses = dict[str, Tensor]


class MethodContract:
    """Tests that every :class:`~trainables.methods.Method` must pass.

    They train on blobs of three classes, with batches of 8 images of 2 × 2 pixels, by SGD with
    momentum and clipped gradients. Two of them start two processes and compare them with one.
    """

    method: ClassVar[type[Method]]
    """The method under test."""
    settings: ClassVar[Mapping[str, object]] = {}
    """Its settings, as YAML would give them."""
    parity_settings: ClassVar[Mapping[str, object]] = {}
    """Further settings where two workers are compared with one, such as ``dropout: 0.0``: each
    worker draws its own."""

    def make_comparable(self, method: Method, step: int, runtime: Runtime) -> None:
        """Prepare a step that two workers take together and one takes alone.

        A method that draws random numbers in a step overrides this, and replaces them by the
        worker's share of what one process would draw.
        """

    # Settings

    def test_settings_are_strict_documented_and_stored_without_loss(self) -> None:
        check_config(self.method, MethodConfig, self.settings)

    # What a checkpoint holds

    @pytest.mark.parametrize("stop", [1, 2, 3, 5], ids="after_step_{}".format)
    def test_resumes_bit_for_bit(self, stop: int, tmp_path: Path) -> None:
        data = TinyData()
        whole = self._build()
        _train(whole, range(stop), data)
        torch.save(whole.state_dict(), tmp_path / "state.pt")
        expected = _train(whole, range(stop, LAST_STEPS), data)

        resumed = self._build(seed=1)
        resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        actual = _train(resumed, range(stop, LAST_STEPS), data)
        message = (
            f"A method resumed from its state after step {stop} must take the same steps: what it "
            "remembers must be a buffer or parameter of networks, and every optimizer in "
            "optimizers"
        )
        _assert_equal_states(whole, resumed, message)
        assert actual == expected, f"{message}; losses differ."

    def test_equal_seeds_give_equal_steps(self) -> None:
        data, first, second = TinyData(), self._build(), self._build()
        losses = [_train(method, range(LAST_STEPS), data) for method in (first, second)]
        message = "Randomness must come from torch's global generator alone"
        _assert_equal_states(first, second, message)
        assert losses[0] == losses[1], f"{message}; losses differ."

    def test_every_optimizer_is_listed(self) -> None:
        method = self._build()
        owned = {name: o for name, o in vars(method).items() if isinstance(o, Optimizer)}
        missing = [
            name
            for name, optimizer in owned.items()
            if not any(optimizer is listed for listed in method.optimizers.values())
        ]
        assert not missing, (
            f"self.optimizers must list every optimizer, but lacks {missing}: checkpoints would "
            "forget their state, and schedules would not reach them."
        )

    # A step

    def test_loss_terms_are_finite_scalars_without_gradient(self) -> None:
        for terms in _train(self._build(), range(LAST_STEPS), TinyData()):
            _check_losses(terms)

    @pytest.mark.parametrize("progress", [0.0, 0.999])
    def test_losses_are_finite_at_both_ends_of_the_training(self, progress: float) -> None:
        data, method = TinyData(), self._build()
        method.begin_epoch(data.views(), 0)
        _check_losses(method.update(data.batch(0), progress))

    def test_losses_are_finite_when_a_batch_lacks_classes(self) -> None:
        data, method = TinyData(), self._build()
        method.begin_epoch(data.views(), 0)
        batch = data.batch(0)
        alone = (data.source_labels == 0).nonzero()[:, 0]
        chosen = alone[torch.arange(len(batch.source_labels)) % len(alone)]
        _check_losses(
            method.update(
                replace(
                    batch,
                    source_images=data.source[chosen],
                    source_labels=data.source_labels[chosen],
                    source_indices=chosen,
                ),
                0.5,
            )
        )

    def test_a_step_leaves_its_batch_unchanged(self) -> None:
        data, method = TinyData(), self._build()
        method.begin_epoch(data.views(), 0)
        batch = data.batch(0)
        method.update(batch, 0.5)
        changed = _differing_fields(batch, data.batch(0))
        assert not changed, f"update must not change its batch in place, but changes {changed}."

    @pytest.mark.parametrize("family", TRANSFORMERS)
    def test_every_parameter_of_the_backbone_is_trained(self, family: str) -> None:
        source, target = _images("source", 12), _images("target", 9)
        labels = torch.arange(12) % NUM_CLASSES
        views = EpochViews(
            lambda: zip(source.split(5), labels.split(5), strict=True),
            lambda: iter(target.split(4)),
        )
        batch = Batch(
            source[:8], labels[:8], torch.arange(8), target[:8], torch.arange(8), target[:8] + 0.1
        )
        seed_everything(0, "backbone")
        architecture = TRANSFORMERS[family]
        backbone = architecture.build(architecture.Config(), imagenet=False)
        method = build_method(self.method, self.settings, backbone, clip_norm=None)
        before = _copies(method.networks.backbone)

        method.begin_epoch(views, 0)
        _check_losses(method.update(batch, progress=0.5))
        unchanged = [
            name
            for name, parameter in method.networks.backbone.named_parameters()
            if torch.equal(parameter, before[name])
        ]
        assert not unchanged, f"A step must train the whole backbone, but leaves {unchanged}."
        with method.evaluating():
            prediction = method.predict(target)
        _check_prediction(prediction, 9, 16)

    def test_every_parameter_is_trained_within_two_epochs(self) -> None:
        method = self._build()
        before = _copies(method.networks)
        _train(method, range(2 * STEPS_PER_EPOCH), TinyData())
        unchanged = [
            name
            for name, parameter in method.networks.named_parameters()
            if parameter.requires_grad and torch.equal(parameter, before[name])
        ]
        assert not unchanged, (
            f"Every parameter must be trained, but {unchanged} never changes. Hand it to "
            "make_optimizer, or make it a buffer."
        )

    def test_target_images_matter_only_where_the_method_says_so(self) -> None:
        data = TinyData()
        batch = data.batch(0)
        other = replace(batch, target_images=batch.target_images.flip(1) + 1, target_views=None)
        nothing = replace(
            batch,
            target_images=batch.target_images[:0],
            target_indices=batch.target_indices[:0],
            target_views=None,
        )
        if not self.method.uses_target:
            states = [self._after_one_step(data, given) for given in (batch, other, nothing)]
            assert all(_equal(states[0], state) for state in states[1:]), (
                "A method that declares uses_target = False must not read target images."
            )

    def test_second_views_are_read_only_on_request(self) -> None:
        data = TinyData()
        batch = data.batch(0)
        if not self._build().needs_target_views:
            without = self._after_one_step(data, replace(batch, target_views=None))
            assert _equal(self._after_one_step(data, batch), without), (
                "A method must set needs_target_views where it reads Batch.target_views."
            )

    def test_parts_of_a_batch_add_up_to_the_step_on_the_whole(self) -> None:
        if not self.method.supports_accumulation:
            pytest.skip("the method does not declare supports_accumulation")
        with _float64():
            whole, losses = self._accumulated(1)
            parts, means = self._accumulated(4)
        message = (
            "A method that declares supports_accumulation must have losses that are means over "
            "samples: {name} differs between a whole batch and four parts of it."
        )
        _assert_close(parts, whole, 1e-12, message)
        _assert_close(means, losses, 1e-12, message)

    # Predictions

    def test_evaluation_changes_nothing(self) -> None:
        data = TinyData()
        first, second = self._build(), self._build()
        _train(first, range(2), data)
        _train(second, range(2), data)
        with second.evaluating():
            prediction = second.predict(data.target)
        _check_prediction(prediction, len(data.target), FEATURE_DIM)
        message = "predict must not change the method"
        _assert_equal_states(first, second, message)
        _train(first, range(2, 4), data)
        _train(second, range(2, 4), data)
        _assert_equal_states(first, second, f"{message}, nor the steps that follow")

    def test_predictions_do_not_depend_on_the_rest_of_the_batch(self) -> None:
        data, method = TinyData(), self._build()
        _train(method, range(2), data)
        with method.evaluating():
            whole = method.predict(data.target)
            alone = [method.predict(image[None]) for image in data.target]
        for name in ("logits", "features"):
            _assert_close(
                {name: torch.cat([getattr(prediction, name) for prediction in alone])},
                {name: getattr(whole, name)},
                1e-5,
                "{name} of an image must not depend on the other images of its batch.",
            )

    def test_output_layers_hold_one_vector_for_each_class(self) -> None:
        method = self._build()
        modules = list(method.networks.modules())
        assert method.output_layers, "output_layers must name the classifier's last layer."
        for layer in method.output_layers:
            assert isinstance(layer, nn.Linear) and layer.out_features == NUM_CLASSES, (
                f"output_layers must be linear layers with an output for each class, got {layer}."
            )
            assert any(layer is module for module in modules), (
                "output_layers must be parts of networks."
            )
        if len(method.output_layers) == 1:
            given: list[Tensor] = []
            (layer,) = method.output_layers
            layer.register_forward_hook(lambda _, inputs, __: given.append(inputs[0]))
            with method.evaluating():
                logits = method.predict(TinyData().target).logits
            assert given and torch.allclose(layer(given[0]), logits, atol=1e-5), (
                "The logits of predict must be what the layer in output_layers returns."
            )

    # Several workers

    def test_two_workers_take_the_steps_of_one(self) -> None:
        expected, losses = self._on_workers(Runtime(), batchnorm=False)
        with _float64():
            seed_everything(0, "backbone")
            initial = tiny_backbone().state_dict()
        still = [
            name
            for name, value in initial.items()
            if (expected[f"backbone.{name}"] - value).abs().max() <= 1e-3
        ]
        assert not still, f"Three steps barely move {still}: the comparison would say nothing."

        workers = run_on_workers(type(self)._of_worker, type(self), False)
        message = (
            "Two workers must take the steps of one: {name} differs. Take statistics of a batch "
            "over runtime.all_gather(…), and run networks through runtime.wrap(…)."
        )
        for state, _ in workers:
            _assert_close(state, expected, 1e-9, message)
        means = {
            name: torch.stack([terms[name] for _, terms in workers]).mean() for name in losses
        }
        _assert_close(means, losses, 1e-9, message)

    def test_two_workers_agree_with_batch_normalisation(self) -> None:
        (first, _), (second, _) = run_on_workers(type(self)._of_worker, type(self), True)
        statistics = ("running_mean", "running_var")  # each worker's own until the next step
        differing = [
            name
            for name, value in first.items()
            if not name.endswith(statistics) and not torch.equal(second[name], value)
        ]
        assert not differing, f"Both workers must hold the same networks, but {differing} differ."

    @staticmethod
    def _of_worker(
        runtime: Runtime, contract: "type[MethodContract]", batchnorm: bool
    ) -> tuple[Losses, Losses]:
        return contract()._on_workers(runtime, batchnorm)

    def _on_workers(self, runtime: Runtime, batchnorm: bool) -> tuple[Losses, Losses]:
        """Take three steps in two epochs, in float64.

        Without ``batchnorm``, also that of heads is in evaluation mode: its statistics are each
        worker's own by design.

        Returns:
            The networks' state, and the sums of the loss terms.
        """
        with _float64():
            seed_everything(0, "backbone")
            backbone = tiny_backbone(batchnorm=batchnorm)
            settings = {**self.settings, **self.parity_settings}
            method = build_method(self.method, settings, backbone, runtime)
            data, sums = TinyData(), Losses()
            for step in range(PARITY_STEPS):
                epoch = step // STEPS_PER_EPOCH
                self.make_comparable(method, step, runtime)
                if step % STEPS_PER_EPOCH == 0:
                    method.begin_epoch(data.views(), epoch)
                for module in method.networks.modules():
                    if isinstance(module, _BatchNorm) and not batchnorm:
                        module.eval()
                batch = share_of(data.batch(step), runtime.rank, runtime.world_size)
                for name, value in method.update(batch, epoch / 2).items():
                    sums[name] = sums.get(name, torch.zeros(())) + value
        return method.networks.state_dict(), sums

    # Helpers

    def _build(self, seed: int = 0) -> Method:
        """The method on a backbone with batch normalisation and dropout."""
        seed_everything(seed, "backbone")
        backbone = tiny_backbone(batchnorm=True, dropout=0.3)
        return build_method(self.method, self.settings, backbone)

    def _after_one_step(self, data: TinyData, batch: Batch) -> Losses:
        method = self._build()
        method.begin_epoch(data.views(), 0)
        seed_everything(0, "step")
        method.update(batch, 0.5)
        return method.networks.state_dict()

    def _accumulated(self, num_parts: int) -> tuple[Losses, Losses]:
        """The networks after three steps in parts, and the last losses."""
        seed_everything(0, "backbone")
        accumulation = GradientAccumulation(num_parts)
        method = build_method(
            self.method, self.settings, tiny_backbone(), accumulation=accumulation
        )
        data, losses = TinyData(), Losses()
        method.begin_epoch(data.views(), 0)
        for step in range(3):
            losses = accumulation.update(method, data.batch(step), 0.5)
        return method.networks.state_dict(), losses


def _train(method: Method, steps: range, data: TinyData) -> list[Losses]:
    losses = []
    for step in steps:
        epoch = step // STEPS_PER_EPOCH
        if step % STEPS_PER_EPOCH == 0:
            method.begin_epoch(data.views(), epoch)
        seed_everything(0, "step", step)
        losses.append(method.update(data.batch(step), epoch / 3))
    return losses


def _images(stream: str, count: int) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=generator(0, stream))


def _copies(networks: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.clone() for name, parameter in networks.named_parameters()}


def _check_losses(terms: Losses) -> None:
    assert terms, "update must return at least one loss term."
    for name, term in terms.items():
        assert term.shape == (), f"Loss '{name}' must be a scalar, got shape {tuple(term.shape)}."
        assert not term.requires_grad, f"Loss '{name}' must be detached."
        assert term.isfinite(), f"Loss '{name}' must be finite, got {term.item()}."


def _check_prediction(prediction: Prediction, num_images: int, feature_dim: int) -> None:
    for name, actual, expected in (
        ("logits", prediction.logits, (num_images, NUM_CLASSES)),
        ("features", prediction.features, (num_images, feature_dim)),
        *(
            (f"head_logits/{head}", logits, (num_images, NUM_CLASSES))
            for head, logits in prediction.head_logits.items()
        ),
    ):
        assert actual.shape == expected, (
            f"Predicted {name} must have shape {expected}, got {tuple(actual.shape)}."
        )
        assert actual.isfinite().all(), f"Predicted {name} must be finite."


def _equal(first: Losses, second: Losses) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(second[name], value) for name, value in first.items()
    )


def _assert_equal_states(first: Method, second: Method, message: str) -> None:
    expected, actual = first.networks.state_dict(), second.networks.state_dict()
    assert expected.keys() == actual.keys(), f"{message}; the names of tensors differ."
    differing = [name for name, value in expected.items() if not torch.equal(actual[name], value)]
    assert not differing, f"{message}; {', '.join(differing)} differ."


def _assert_close(actual: Losses, expected: Losses, tolerance: float, message: str) -> None:
    assert actual.keys() == expected.keys(), (
        f"The names of losses or tensors differ: {sorted(actual)} and {sorted(expected)}."
    )
    for name, value in expected.items():
        assert torch.allclose(actual[name], value, rtol=0, atol=tolerance), message.format(
            name=name
        )


def _differing_fields(first: Batch, second: Batch) -> list[str]:
    return [
        field.name
        for field in fields(Batch)
        if not torch.equal(getattr(first, field.name), getattr(second, field.name))
    ]


@contextmanager
def _float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
