"""From single chromosomes to pairs: the usable images of one type in one cell share a pair.

Shape suffixes: I images, N pairs, C chromatids, L positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from homnet.cohorts.pairs import PAIR_SHAPE

CHROMOSOME_KEY: Final = ["hospital", "patient_id", "cell_id", "chromosome"]
"""What two homologs have in common."""
SURPLUS: Final = "a further copy: a pair has room for two homologs"
"""Why an image of a third homolog gives nothing."""


@dataclass(frozen=True)
class PairedImages:
    """Which pair and place each image has."""

    pair_NPCL: NDArray[np.uint8]
    """Darkness (N, 2, 2, 512), in the order in which pairs appear; a missing homolog is 0."""
    pair_I: NDArray[np.int64]
    """Pair of each image."""
    homolog_I: NDArray[np.int64]
    """Its place in the pair, 0 or 1."""


def pair_up(images: pd.DataFrame, sequences: Sequence[bytes]) -> PairedImages:
    """Puts homologs together.

    Args:
        images: rows with the columns of :data:`CHROMOSOME_KEY`, at most two of each; the first
            one is homolog 0.
        sequences: of each image, the bytes of its (2, 512) sequence.
    """
    groups = images.groupby(CHROMOSOME_KEY, sort=False)
    pair_I = np.asarray(groups.ngroup(), np.int64)
    homolog_I = np.asarray(groups.cumcount(), np.int64)
    pair_NPCL = np.zeros((int(pair_I.max(initial=-1)) + 1, *PAIR_SHAPE), np.uint8)
    pair_NPCL[pair_I, homolog_I] = np.frombuffer(b"".join(sequences), np.uint8).reshape(
        -1, *PAIR_SHAPE[1:]
    )
    return PairedImages(pair_NPCL, pair_I, homolog_I)
