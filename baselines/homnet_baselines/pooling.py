"""Pooling from pairs to bags for every baseline: the mean over the pairs present.

Shape suffixes: B bags, K cells, M pairs present, P homologs, C chromatids, L positions.
"""

import torch


def mean_over_pairs(value_M: torch.Tensor, mask_BK: torch.Tensor) -> torch.Tensor:
    """Mean (B, ...) per bag of the values (M, ...) of its pairs, in the order of the mask."""
    shape = (*mask_BK.shape, *value_M.shape[1:])
    spread_BK = torch.zeros(shape, dtype=value_M.dtype, device=value_M.device)
    spread_BK[mask_BK] = value_M
    count_B = mask_BK.sum(dim=1).clamp(min=1).view(-1, *[1] * (value_M.ndim - 1))
    return spread_BK.sum(dim=1) / count_B
