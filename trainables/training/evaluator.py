"""Predictions and metrics of a method on the data of a task, computed by all workers."""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from trainables.augmentations import evaluation_transform, normalize
from trainables.data.batch import EpochViews
from trainables.data.evaluation import (
    Evaluation,
    Mixtures,
    OracleEvaluation,
    Predictions,
    classification_metrics,
    confusion_matrix,
)
from trainables.data.images import Images, ImageSubset, LabelledImages
from trainables.data.loading import evaluation_stream
from trainables.data.mixing_pairs import SHARE, probing_pairs
from trainables.methods import Method
from trainables.nn.batchnorm import has_batchnorm, reestimate_batchnorm
from trainables.runtime.distributed import Runtime
from trainables.runtime.randomness import generator
from trainables.tasks import Domains
from trainables.trial_config import TrialConfig


class Evaluator:
    """Measures a method during and after its training.

    Args:
        config: The trial's configuration.
        domains: The task's data.
        method: The method to measure.
        runtime: Device and workers; each worker predicts a share of every set.
    """

    def __init__(
        self, config: TrialConfig, domains: Domains, method: Method, runtime: Runtime
    ) -> None:
        self.config = config
        self.domains = domains
        self.method = method
        self.runtime = runtime
        size = config.evaluation.max_images
        self.source_sample = domains.source_val.subset(_sample(len(domains.source_val), size))
        self.target_sample = (
            None
            if domains.target_train is None
            else ImageSubset(domains.target_train.images, _sample(len(domains.target_train), size))
        )

    def evaluation(self) -> tuple[Evaluation, dict[str, float]]:
        """Evaluate the method on samples of both domains.

        Returns:
            The evaluation that criteria score, and metrics of the source's hold-out. It is an
            :class:`OracleEvaluation` if the task has labelled target images; criteria get their
            labels only if they declare that they read them.
        """
        source, metrics = self.measure("source_val", self.source_sample)
        labels = self.source_sample.labels
        weights = tuple(layer.weight.detach().cpu() for layer in self.method.output_layers)
        if self.target_sample is None:
            nothing = Predictions(source.logits[:0], source.features[:0])
            no_pair = torch.empty(0, dtype=torch.int64)
            mixtures = Mixtures(no_pair, no_pair, nothing.logits)
            return Evaluation(source, labels, nothing, mixtures, weights), metrics
        target, _ = self.predict(self.target_sample)
        mixtures = self.mixtures(self.target_sample, target)
        labelled = self.domains.target_val
        if labelled is None:
            return Evaluation(source, labels, target, mixtures, weights), metrics
        on_labelled, _ = self.predict(labelled.images)
        return OracleEvaluation(
            source, labels, target, mixtures, weights, on_labelled, labelled.labels
        ), metrics

    def test_metrics(self) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Measure all test sets, then again with BatchNorm statistics of the target images.

        Returns:
            The metrics, and by the name of each set its confusion matrix ``(K, K)``, which is that
            of the original statistics.
        """
        metrics: dict[str, float] = {}
        confusion = {}
        for name, data in self.domains.test_sets.items():
            predictions, measured = self.measure(name, data)
            metrics.update(measured)
            confusion[name] = confusion_matrix(predictions.logits, data.labels)
        target = self.domains.target_train
        if target is not None and has_batchnorm(self.method.networks):
            reestimate_batchnorm(
                self.method.networks,
                self.method.predict,
                self.walk(target.images, range(len(target))),
            )
            for name, data in self.domains.test_sets.items():
                metrics.update(self.measure(f"target_batchnorm/{name}", data)[1])
        return metrics, confusion

    def target_predictions(self) -> list[tuple[str, str, float]]:
        """Return name, predicted class and its probability of every target training image."""
        target = self.domains.target_train
        if target is None:
            return []
        predictions, _ = self.predict(target.images)
        top = predictions.logits.softmax(dim=1).max(dim=1)
        return [
            (target.images.name(i), self.domains.classes[label], probability)
            for i, (label, probability) in enumerate(
                zip(top.indices.tolist(), top.values.tolist(), strict=True)
            )
        ]

    def measure(self, name: str, data: LabelledImages) -> tuple[Predictions, dict[str, float]]:
        """Return predictions on a labelled set, and its metrics as ``<name>/<metric>``."""
        predictions, heads = self.predict(data.images)
        metrics = {
            f"{name}/{metric}": value
            for metric, value in classification_metrics(predictions.logits, data.labels).items()
        }
        for head, logits in heads.items():
            metrics[f"{name}/{head}_accuracy"] = classification_metrics(logits, data.labels)[
                "accuracy"
            ]
        return predictions, metrics

    def predict(self, images: Images) -> tuple[Predictions, dict[str, Tensor]]:
        """Return the main classifier's output on a set, and the logits of other heads by name."""
        return self._predict(self.walk(images, self._share(range(len(images)))), len(images))

    def mixtures(self, images: Images, predictions: Predictions) -> Mixtures:
        """Return predictions on mixtures of images, within predicted classes and across them."""
        first, second = probing_pairs(predictions.logits.argmax(dim=1))
        if len(first) == 0:
            return Mixtures(first, second, predictions.logits[:0])
        parts = (self.walk(images, self._share(side.tolist())) for side in (first, second))
        mixed = (SHARE * one + (1 - SHARE) * other for one, other in zip(*parts, strict=True))
        return Mixtures(first, second, self._predict(mixed, len(first))[0].logits)

    def _share(self, indices: Sequence[int]) -> Sequence[int]:
        """Return this worker's share, or one image if it has none: gathering needs its shapes."""
        return indices[self.runtime.rank :: self.runtime.world_size] or indices[:1]

    def _predict(
        self, batches: Iterable[Tensor], num_images: int
    ) -> tuple[Predictions, dict[str, Tensor]]:
        """Return predictions on the batches of all workers, in the order of the set."""
        self.runtime.broadcast_buffers(self.method.networks)
        logits, features, heads = [], [], dict[str, list[Tensor]]()
        with self.method.evaluating():
            for batch in batches:
                prediction = self.method.predict(batch)
                logits.append(prediction.logits)
                features.append(prediction.features)
                for head, value in prediction.head_logits.items():
                    heads.setdefault(head, []).append(value)
        gather = _Gather(num_images, self.runtime)
        return (
            Predictions(gather(logits), gather(features)),
            {head: gather(values) for head, values in heads.items()},
        )

    def views(self) -> EpochViews:
        """Return both domains' training images in order, transformed as at test time."""
        source, target = self.domains.source_train, self.domains.target_train

        def walk_source() -> Iterator[tuple[Tensor, Tensor]]:
            start = 0
            for images in self.walk(source.images, range(len(source))):
                labels = source.labels[start : start + len(images)]
                yield images, labels.to(self.runtime.device)
                start += len(images)

        def walk_target() -> Iterator[Tensor]:
            assert target is not None, "a method that clusters the target has one"
            return self.walk(target.images, range(len(target)))

        return EpochViews(walk_source, walk_target)

    def walk(self, images: Images, indices: Sequence[int]) -> Iterator[Tensor]:
        """Yield the images at ``indices``, in order, normalised, in evaluation batches."""
        stream = evaluation_stream(
            images,
            evaluation_transform(self.domains.geometry),
            indices=indices,
            batch_size=self.config.evaluation.batch_size,
            runtime=self.runtime,
            num_workers=self.config.loader_workers,
        )
        for samples in stream:
            on_device = samples.images.to(self.runtime.device, non_blocking=True)
            yield normalize(on_device, self.config.normalization)


def _sample(num_images: int, size: int) -> Tensor:
    """Return sorted positions of a random sample, the same in every trial."""
    return torch.randperm(num_images, generator=generator(0, "sample"))[:size].sort().values


class _Gather:
    """Collects the workers' interleaved shares of a set in its order, on the CPU."""

    def __init__(self, num_images: int, runtime: Runtime) -> None:
        self.num_images = num_images
        self.runtime = runtime

    def __call__(self, parts: list[Tensor]) -> Tensor:
        share = range(self.runtime.rank, self.num_images, self.runtime.world_size)
        mine = torch.cat(parts)[: len(share)]
        if self.runtime.world_size == 1:
            return mine.cpu()
        rows = math.ceil(self.num_images / self.runtime.world_size)
        padded = torch.cat([mine, mine.new_zeros(rows - len(mine), *mine.shape[1:])])
        gathered = self.runtime.all_gather(padded).unflatten(0, (self.runtime.world_size, rows))
        return gathered.transpose(0, 1).flatten(0, 1)[: self.num_images].cpu()
