"""Temperatures of what a reader says.

Shape suffixes: B bags, K cells, G places, X classes, N of anything.
"""

import math

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch.nn import functional as F

from homnet.reader.lessons import Lessons
from homnet.reader.loss import place_of_share
from homnet.reader.network import Reading
from homnet.reader.truth import UNKNOWN


def calibrate(readings: list[Reading], lessons: Lessons) -> dict[str, float]:
    """Temperatures of what a reader says, fitted on validation bags (Guo et al. 2017).

    Args:
        readings: of the bags, batch by batch.
        lessons: the bags.

    Returns:
        ``kind``, ``segment`` and ``cell``: what logits are divided by.
    """
    targets = lessons.targets
    kind_BX = torch.cat([r.kind_BX for r in readings]).double().cpu()
    segment_B2G = torch.cat([r.segment_B2G for r in readings]).double().cpu()
    cell_BKX = torch.cat([r.cell_BKX for r in readings]).double().cpu()
    kind_B = torch.as_tensor(targets.kind_B)
    known_B = kind_B != UNKNOWN
    num_places = segment_B2G.shape[-1]
    share_B2 = torch.as_tensor(targets.segment_B2)
    placed_B = share_B2.isfinite().all(dim=1)
    place_N = place_of_share(share_B2[placed_B], num_places - 2).round().long().flatten()
    homolog_BK = torch.as_tensor(targets.homolog_BK)
    abnormal_BK = torch.as_tensor(targets.abnormal_BK)
    mask_BK = torch.as_tensor(lessons.epoch.bags.mask_BK)
    cell_known_BK = mask_BK & ~(abnormal_BK & (homolog_BK < 0))
    class_N = torch.where(abnormal_BK, homolog_BK + 1, 0)[cell_known_BK]
    return {
        "kind": _temperature(kind_BX[known_B], kind_B[known_B]),
        "segment": _temperature(segment_B2G[placed_B].flatten(0, 1), place_N),
        "cell": _temperature(cell_BKX[cell_known_BK], class_N),
    }


def _temperature(logit_NX: torch.Tensor, class_N: torch.Tensor) -> float:
    if not len(class_N):
        return 1.0

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logit_NX / math.exp(log_temperature), class_N))

    return float(np.exp(minimize_scalar(loss, bounds=(-2, 3), method="bounded").x))
