"""One way from the seed of a run to every generator in it."""

import hashlib

import numpy as np


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A generator that depends on the run's seed and on what it is for, and on nothing else.

    Args:
        seed: the run's seed.
        purpose: words and numbers, for example ``"bags", epoch``.
    """
    text = "/".join(map(str, (seed, *purpose)))
    return np.random.default_rng(
        int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")
    )
