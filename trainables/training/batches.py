"""The batches of a trial: both domains' images, augmented, normalised and on the device."""

from collections.abc import Iterator

from torch import Tensor

from trainables.augmentations import AUGMENTATIONS, AugmentationConfig, consistency_view, normalize
from trainables.configuration.schema import Choice
from trainables.data.batch import Batch
from trainables.data.images import Images
from trainables.data.loading import Samples, training_stream
from trainables.methods import Method
from trainables.runtime.distributed import Runtime
from trainables.tasks import Domains
from trainables.trial_config import TrialConfig


class TrainingBatches:
    """This worker's shares of the training batches, addressed by step.

    Args:
        config: The trial's configuration.
        domains: The task's data.
        method: The method that the batches are for; it says which images it reads.
        runtime: The device that batches are moved to, and the workers that share them.
    """

    def __init__(
        self, config: TrialConfig, domains: Domains, method: Method, runtime: Runtime
    ) -> None:
        self.config = config
        self.domains = domains
        self.method = method
        self.runtime = runtime

    def starting_at(self, first_step: int) -> Iterator[Batch]:
        """Yield the batches of all steps from ``first_step`` on, without end."""
        augmentation = self.config.augmentation
        target_augmentation = self.config.target_augmentation or augmentation
        source = self._stream(self.domains.source_train.images, "source", augmentation, first_step)
        labels = self.domains.source_train.labels
        target: Iterator[Samples] | None = None
        if self.method.uses_target and self.domains.target_train is not None:
            target = self._stream(
                self.domains.target_train.images,
                "target",
                target_augmentation,
                first_step,
                second_view=self.method.needs_target_views,
            )
        device = self.runtime.device
        for samples in source:
            images = self._normalized(samples.images)
            other = next(target) if target is not None else None
            yield Batch(
                images,
                labels[samples.indices].to(device, non_blocking=True),
                samples.indices.to(device, non_blocking=True),
                self._normalized(other.images) if other else images[:0],
                (other.indices if other else samples.indices[:0]).to(device, non_blocking=True),
                self._normalized(other.views) if other and other.views is not None else None,
            )

    def _stream(
        self,
        images: Images,
        name: str,
        choice: Choice[AugmentationConfig],
        first_step: int,
        second_view: bool = False,
    ) -> Iterator[Samples]:
        entry = AUGMENTATIONS.look_up(choice.name)
        views = consistency_view(self.domains.geometry) if second_view else None
        return training_stream(
            images,
            entry.build(choice.config, self.domains.geometry),
            images_per_draw=choice.config.images_per_draw,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            stream=name,
            first_step=first_step,
            runtime=self.runtime,
            num_workers=self.config.loader_workers,
            views=views,
        )

    def _normalized(self, images: Tensor) -> Tensor:
        on_device = images.to(self.runtime.device, non_blocking=True)
        return normalize(on_device, self.config.normalization)
