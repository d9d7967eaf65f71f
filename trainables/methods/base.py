"""Base class of methods: networks, an optimisation step, and a prediction."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainables.configuration.schema import BaseConfig
from trainables.data.batch import Batch, EpochViews
from trainables.nn.networks import Backbone, Networks, Prediction
from trainables.nn.optimization import MakeOptimizer
from trainables.runtime.distributed import Runtime


class MethodConfig(BaseConfig):
    """Base class of a method's settings; it has none of its own."""


def second_views(batch: Batch, needed: bool) -> tuple[Tensor, ...]:
    """Return the second views of the target images as a tuple; empty unless ``needed``."""
    if not needed:
        return ()
    assert batch.target_views is not None, "a method that needs_target_views got none"
    return (batch.target_views,)


class Method(ABC):
    """A training algorithm: the networks that it trains, a step, and a prediction.

    A subclass sets :attr:`networks`, :attr:`optimizers` and :attr:`output_layers` in its
    constructor. Other state that lasts from step to step (centroids, pseudo-labels) is a buffer or
    parameter of ``networks``, so that checkpoints contain it.

    Args:
        config: The method's settings.
        backbone: The initialised feature extractor.
        num_classes: Number of classes K.
        make_optimizer: Builds the trial's optimizer over given parameters.
        runtime: Device and workers; the method moves ``networks`` to its device.
    """

    Config = MethodConfig
    uses_target: ClassVar[bool] = True
    """Whether training reads target images."""
    supports_accumulation: ClassVar[bool] = False
    """Whether every loss is a mean over samples, so that gradients of a batch's parts add up to
    the batch's; false if a loss depends on the batch as a whole (class balance, centroids)."""

    needs_target_views: bool = False
    """Whether :attr:`Batch.target_views` must be given; depends on the configuration."""
    config: MethodConfig
    networks: Networks
    optimizers: dict[str, Optimizer]
    output_layers: Sequence[nn.Linear]
    """Last layer of the main classifier, or of each head that it averages. Its weights ``(K, D)``
    are the class vectors that the transfer score is computed from."""

    def __init_subclass__(cls) -> None:
        """Accept the name that :attr:`supports_accumulation` had in version 0.1."""
        super().__init_subclass__()
        own = vars(cls)
        if "losses_add_up" in own and "supports_accumulation" not in own:
            warnings.warn(
                f"{cls.__module__}.{cls.__qualname__}: losses_add_up is now "
                "supports_accumulation; its former name goes with version 0.3.",
                DeprecationWarning,
                stacklevel=3,  # the frame above is ABCMeta's
            )
            cls.supports_accumulation = own["losses_add_up"]

    @abstractmethod
    def __init__(
        self,
        config: MethodConfig,
        backbone: Backbone,
        num_classes: int,
        make_optimizer: MakeOptimizer,
        runtime: Runtime,
    ) -> None: ...

    @abstractmethod
    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Take one optimisation step.

        Args:
            batch: This worker's share of the global batch.
            progress: Completed fraction of training, in ``[0, 1)``; ramps are functions of it.

        Returns:
            Loss terms by name, as detached scalars before weighting.
        """

    @abstractmethod
    def predict(self, images: Tensor) -> Prediction:
        """Classify images ``(B, 3, H, W)``; the caller sets evaluation mode."""

    def begin_epoch(self, views: EpochViews, epoch: int) -> None:  # noqa: B027 - optional
        """Prepare an epoch, counted from 0; ``views`` iterate over both whole domains."""

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Run the block in evaluation mode without gradients, then restore training mode."""
        self.networks.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.networks.train()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""
        return {
            "networks": self.networks.state_dict(),
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.networks.load_state_dict(state["networks"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
