"""Randomness without state: every draw is a function of a seed and of what it is for.

Nothing random is stored in a checkpoint, because nothing random has a history: the permutation of
epoch 7, the crop of image 3 of step 120 and the dropout of step 121 each start from their own key.
A resumed trial therefore continues bit for bit, and so does one on another number of workers as
far as its data goes.
"""

import hashlib

import torch

Key = str | int


def derive_seed(seed: int, *keys: Key) -> int:
    """A 63-bit seed for one purpose; different keys give independent streams."""
    text = "/".join(str(key) for key in (seed, *keys))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *keys: Key) -> torch.Generator:
    """A CPU generator that starts at :func:`derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, *keys))


def seed_everything(seed: int, *keys: Key) -> None:
    """Starts torch's global generators (CPU, and GPUs that are in use) at :func:`derive_seed`.

    ``torch.manual_seed`` would, in a process without GPU, keep every call with its stack for a
    GPU to come: a sixth of a training step's time, and memory that never stops growing.
    """
    start = derive_seed(seed, *keys)
    torch.default_generator.manual_seed(start)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(start)
