"""A trained method from its trial's folder, ready to be measured or asked."""

from pathlib import Path

from trainables.backbones import BACKBONES
from trainables.checkpoint import TrialFolder, load_tensors
from trainables.config import TrialConfig
from trainables.measuring import Meter
from trainables.methods import METHODS
from trainables.optimization import optimizer_factory
from trainables.runtime import Runtime
from trainables.schema import look_up
from trainables.tasks import Domains


def load_trained(config: TrialConfig, folder: Path, domains: Domains,
                 runtime: Runtime | None = None) -> Meter:
    """Builds a trial's method and fills it with the selected checkpoint.

    Args:
        config: The trial's.
        folder: The trial's; it holds ``best.pt``.
        domains: The trial's data, opened.
        runtime: Where to run; the CPU by default.

    Raises:
        ValueError: There is no checkpoint, or it is another configuration's.
    """
    runtime = runtime or Runtime()
    architecture = look_up(BACKBONES, config.backbone.name, "backbone")
    backbone = architecture.build(config.backbone.config, imagenet=False)
    method = look_up(METHODS, config.method.name, "method")(
        config.method.config, backbone, len(domains.classes),
        optimizer_factory(config.optimizer), runtime)
    path = TrialFolder(folder).best
    state = load_tensors(path, runtime.device)
    try:
        method.networks.load_state_dict(state["networks"])
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{path}: not the networks of this configuration ({error}).") from error
    return Meter(config, domains, method, runtime)
