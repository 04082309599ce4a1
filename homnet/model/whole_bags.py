"""Bags of any sizes, scored as they are by any model of bags.

HomNet's bags go through :mod:`homnet.model.joint`, pair by pair; what other models do with a pair
depends on the others of its bag, so that bags of one size go through together.

Shape suffixes: N pairs, B bags, K cells of a bag, P homologs, C chromatids, L positions.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from homnet.bags.assessment import FlatBags
from homnet.bags.epochs import Batch
from homnet.model.predictor import Predictor

_BAGS_AT_ONCE: Final = 64


def whole_logits(predictor: Predictor, bags: FlatBags) -> NDArray[np.float64]:
    """Uncalibrated logits (B), as :meth:`homnet.model.predictor.Predictor.logits` gives them."""
    logit_B = np.zeros(len(bags))
    first_B = np.cumsum(bags.size_B) - bags.size_B
    for size in np.unique(bags.size_B):
        of_size = np.flatnonzero(bags.size_B == size)
        for at in range(0, len(of_size), _BAGS_AT_ONCE):
            chosen = of_size[at : at + _BAGS_AT_ONCE]
            row_BK = first_B[chosen][:, None] + np.arange(size)
            logit_B[chosen] = predictor.logits(_batch(bags, row_BK, predictor.device))
    return logit_B


def _batch(bags: FlatBags, row_BK: NDArray[np.int64], device: torch.device) -> Batch:
    return Batch(
        x_BKPCL=torch.from_numpy(bags.pair_NPCL[row_BK]).to(device),
        mask_BK=torch.ones(row_BK.shape, dtype=torch.bool, device=device),
        chromosome_B=torch.from_numpy(bags.chromosome_N[row_BK[:, 0]]).to(device),
        level_BK=torch.from_numpy(bags.level_N[row_BK]).to(device),
        label_B=torch.zeros(len(row_BK), device=device),
    )
