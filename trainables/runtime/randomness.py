"""Stateless randomness: every draw is a function of a seed and of what it is for.

Checkpoints hold no generator's state: the permutation of epoch 7, the crop of image 3 of step 120
and the dropout of step 121 each start from a key of their own. A resumed trial therefore continues
bit for bit; with another number of workers, it still sees the same data.
"""

import hashlib

import torch

Key = str | int
"""A part of what a draw is for, such as ``"step"`` or its number."""


def derive_seed(seed: int, *keys: Key) -> int:
    """Return a 63-bit seed for one purpose; different keys give independent streams."""
    text = "/".join(str(key) for key in (seed, *keys))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *keys: Key) -> torch.Generator:
    """Return a CPU generator seeded by :func:`derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, *keys))


def seed_everything(seed: int, *keys: Key) -> None:
    """Seed torch's global generators, of the CPU and of GPUs in use, by :func:`derive_seed`."""
    # Not torch.manual_seed: as long as CUDA is not initialised, it queues each call with its stack
    # for later. That takes a sixth of a training step's time, and memory that grows without end.
    start = derive_seed(seed, *keys)
    torch.default_generator.manual_seed(start)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(start)
