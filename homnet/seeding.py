"""Derives every random generator of a run from the run's seed."""

import hashlib

import numpy as np


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A generator that depends only on the run's seed and its purpose.

    Args:
        seed: seed of the run.
        purpose: words and numbers, for example ``"bags", epoch``.
    """
    text = "/".join(map(str, (seed, *purpose)))
    return np.random.default_rng(
        int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")
    )
