"""A trained method, loaded from its trial's folder."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from trainables.backbones import BACKBONES
from trainables.checkpointing.tensors import load_tensors
from trainables.checkpointing.trial_folder import TrialFolder
from trainables.methods import METHODS, Method
from trainables.nn.optimization import optimizer_factory
from trainables.runtime.distributed import Runtime
from trainables.tasks import Domains
from trainables.training.evaluator import Evaluator
from trainables.trial_config import TrialConfig


def load_trained(
    config: TrialConfig, folder: Path, domains: Domains, runtime: Runtime | None = None
) -> Evaluator:
    """Build a trial's method and load the selected checkpoint into it.

    Args:
        config: The trial's configuration.
        folder: The trial's folder, which holds ``best.pt``.
        domains: The trial's data.
        runtime: Device and workers; one process on the CPU by default.

    Raises:
        ValueError: The checkpoint does not exist, or is another configuration's.
    """
    runtime = runtime or Runtime()
    path = TrialFolder(folder).best
    state = load_tensors(path, runtime.device)
    method = filled_method(
        config, len(domains.classes), state.get("networks", {}), str(path), runtime
    )
    return Evaluator(config, domains, method, runtime)


def filled_method(
    config: TrialConfig,
    num_classes: int,
    networks: Mapping[str, Tensor],
    origin: str,
    runtime: Runtime,
) -> Method:
    """Build a trial's method and load given weights into it.

    Args:
        config: The trial's configuration.
        num_classes: K.
        networks: The state of the method's networks.
        origin: The file of that state, for messages.
        runtime: Device and workers.

    Raises:
        ValueError: The weights are another configuration's.
    """
    architecture = BACKBONES.look_up(config.backbone.name)
    backbone = architecture.build(config.backbone.config, imagenet=False)
    method = METHODS.look_up(config.method.name)(
        config.method.config,
        backbone.to(memory_format=torch.channels_last),
        num_classes,
        optimizer_factory(config.optimizer),
        runtime,
    )
    try:
        method.networks.load_state_dict(networks)
    except RuntimeError as error:
        raise ValueError(f"{origin}: not the networks of this configuration ({error}).") from error
    return method
