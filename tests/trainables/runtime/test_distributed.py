"""What crosses workers, as far as one process without a GPU can tell."""

import re

import pytest
import torch
from torch import nn

from trainables.runtime.distributed import Runtime, synchronised
from trainables.trial_config import ResourcesConfig


def test_synchronised_batchnorm_is_the_same_layers_with_the_same_parameters() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()),
        nn.Flatten(),
        nn.Linear(4, 2),
        nn.BatchNorm1d(2),
    )
    before = dict(module.named_parameters()), dict(module.named_buffers())
    assert synchronised(module) is module
    assert [type(layer) for layer in module.modules() if "Norm" in type(layer).__name__] == [
        nn.SyncBatchNorm,
        nn.SyncBatchNorm,
    ]
    for old, new in zip(
        before, (dict(module.named_parameters()), dict(module.named_buffers())), strict=True
    ):
        assert old.keys() == new.keys()
        assert all(torch.equal(old[name], new[name]) for name in old)
    # Optimizers that were given the parameters before still move them.
    assert all(before[0][name] is parameter for name, parameter in module.named_parameters())


def test_former_names_of_a_runtime_s_operations_warn_and_work() -> None:
    runtime = Runtime(broadcast_object=lambda value: [value])
    with pytest.deprecated_call(match=r"Runtime\.share is now Runtime\.broadcast_object; "):
        assert runtime.share(1) == [1]
    with pytest.deprecated_call(
        match=r"Runtime\.same_buffers is now Runtime\.broadcast_buffers; "
    ):
        runtime.same_buffers(nn.BatchNorm1d(2))


@pytest.mark.parametrize(
    "resources",
    [{"sync_batchnorm": True, "workers": 2}, {"sync_batchnorm": True, "gpus_per_worker": 1}],
)
def test_where_torch_has_none_it_is_an_error(resources: dict[str, object]) -> None:
    with pytest.raises(
        ValueError, match=re.escape("sync_batchnorm needs several workers with a GPU each")
    ):
        ResourcesConfig.model_validate(resources)
    ResourcesConfig(sync_batchnorm=True, workers=2, gpus_per_worker=1)
