"""Features of pairs for the baselines: those of the paper (appendix A.3) and band profiles.

All features are invariant to swapping the two homologs.

Shape suffixes: M pairs, P homologs, C chromatids, L positions, S stretched positions, R regions,
F features.
"""

from typing import Final

import numpy as np
import torch
from torch.nn import functional as F

from homnet.model.contract import NUM_TYPES
from homnet.model.views import lengths, standardise, stretch

NUM_PAPER: Final = 11
"""Number of features from :func:`paper_features`."""
NUM_REGIONS: Final = 32
"""Number of regions per profile."""
NUM_PROFILE: Final = 2 * NUM_REGIONS + 3
"""Number of features from :func:`profile_features`."""

_STRETCHED: Final = 128
"""Length of stretched profiles: about one position per image pixel of chromosome 1."""
_PEAK_WINDOW: Final = 13
"""Window of the local maximum, samples: about the width of a band at band level 550."""
_COARSE: Final = 4
"""Samples averaged per DTW step; one image pixel covers about three samples."""
_WARP: Final = 16
"""Largest shift in DTW, in steps: an eighth of the sequence."""
_SHIFTS: Final = (-0.08, -0.04, 0.0, 0.04, 0.08)
"""Shifts of each end that the alignment tries, as fractions of the length."""


def log_length_ratio(x_MPCL: torch.Tensor) -> torch.Tensor:
    """Absolute logarithm of the ratio of the two lengths (M)."""
    log_MP = lengths(x_MPCL).float().log()
    return (log_MP[:, 0] - log_MP[:, 1]).abs()


def profiles(x_MPCL: torch.Tensor) -> torch.Tensor:
    """Chromatid means stretched to one length (M, P, S), with mean 0 and variance 1."""
    stretched, _ = stretch(x_MPCL, _STRETCHED)
    return standardise(stretched / 255).mean(dim=-2)


def aligned_correlation(x_MPCL: torch.Tensor) -> torch.Tensor:
    """Correlation of the two homologs' profiles at the best alignment (M).

    Each end of either homolog may shift by up to 8 % of the length, with linear interpolation in
    between, because a threshold decides where the ends are cut.
    """
    profile_MPS = profiles(x_MPCL)
    first, second = profile_MPS.unbind(1)
    return torch.maximum(_best_correlation(first, second), _best_correlation(second, first))


def _best_correlation(fixed_MS: torch.Tensor, moved_MS: torch.Tensor) -> torch.Tensor:
    size = fixed_MS.shape[-1]
    begin, end = torch.cartesian_prod(*2 * (torch.tensor(_SHIFTS, device=fixed_MS.device),)).T
    t_S = torch.linspace(0, 1, size, device=fixed_MS.device)
    place_AS = ((begin[:, None] * (1 - t_S) + (1 + end[:, None]) * t_S) * (size - 1)).clamp(
        0, size - 1
    )
    left_AS = place_AS.floor().long().clamp(max=size - 2)
    warped_MAS = torch.lerp(
        moved_MS[:, left_AS], moved_MS[:, left_AS + 1], (place_AS - left_AS).to(moved_MS.dtype)
    )
    return _correlation(fixed_MS[:, None], warped_MAS).amax(dim=-1)


def _correlation(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a = a - a.mean(dim=-1, keepdim=True)
    b = b - b.mean(dim=-1, keepdim=True)
    size = (a.square().sum(dim=-1) * b.square().sum(dim=-1)).clamp(min=1e-12).sqrt()
    return (a * b).sum(dim=-1) / size


def paper_features(x_MPCL: torch.Tensor) -> torch.Tensor:
    """The features of appendix A.3 (M, 11).

    Per homolog: mean and variance over all L samples, background included as in the paper's padded
    input; *on-peak* and *off-peak*, taken as the mean darkness of local maxima and local minima.
    Each enters as the mean and absolute difference of the two homologs. Per pair: DTW distance, and
    correlation and covariance after stretching both homologs to one length.
    """
    x = x_MPCL.float() / 255
    sequence_MPL = x.mean(dim=-2)
    inside_MPL = sequence_MPL > 0
    pad = _PEAK_WINDOW // 2
    flat = sequence_MPL.flatten(0, 1)[:, None]
    highest = F.max_pool1d(flat, _PEAK_WINDOW, 1, pad).view_as(sequence_MPL)
    # Minima are searched inside the chromosome only: background is lower still.
    filled = torch.where(inside_MPL, sequence_MPL, torch.inf).flatten(0, 1)[:, None]
    lowest = -F.max_pool1d(-filled, _PEAK_WINDOW, 1, pad).view_as(sequence_MPL)
    values_MPF = torch.stack(
        [
            sequence_MPL.mean(dim=-1),
            sequence_MPL.var(dim=-1),
            _mean_where(sequence_MPL, inside_MPL & (sequence_MPL >= highest)),
            _mean_where(sequence_MPL, inside_MPL & (sequence_MPL <= lowest)),
        ],
        dim=-1,
    )
    stretched, _ = stretch(x_MPCL, _STRETCHED)
    first, second = (stretched / 255).mean(dim=-2).unbind(1)
    covariance = ((first - first.mean(-1, True)) * (second - second.mean(-1, True))).mean(-1)
    of_pair = torch.stack([_dtw_distance(x_MPCL), _correlation(first, second), covariance], dim=-1)
    one, other = values_MPF.unbind(1)
    return torch.cat([(one + other) / 2, (one - other).abs(), of_pair], dim=-1)


def _mean_where(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (x * mask).sum(dim=-1) / mask.sum(dim=-1).clamp(min=1)


def _dtw_distance(x_MPCL: torch.Tensor) -> torch.Tensor:
    """DTW distance (M) between the unstretched chromatid means of the two homologs."""
    # A server that only serves can load the other methods without this package.
    from dtaidistance import dtw

    coarse = F.avg_pool1d(x_MPCL.float().mean(dim=-2) / 255, _COARSE).double().cpu().numpy()
    ends = (-(-lengths(x_MPCL) // _COARSE)).cpu().numpy()
    distances = [
        dtw.distance_fast(
            np.ascontiguousarray(pair[0, : end[0]]),
            np.ascontiguousarray(pair[1, : end[1]]),
            window=_WARP,
            # Pruning uses the Euclidean distance as an upper bound. When the DTW distance equals
            # it, as between similar homologs, version 2.5.1 returns infinity.
            use_pruning=False,
        )
        for pair, end in zip(coarse, ends, strict=True)
    ]
    return torch.tensor(distances, dtype=torch.float32, device=x_MPCL.device)


def profile_features(x_MPCL: torch.Tensor) -> torch.Tensor:
    """Features for one-class methods (M, 67).

    Mean and absolute difference of the homologs' profiles in 32 regions, absolute log length ratio,
    mean log length, and one minus the aligned correlation.
    """
    region_MPR = F.adaptive_avg_pool1d(profiles(x_MPCL), NUM_REGIONS)
    one, other = region_MPR.unbind(1)
    log_MP = lengths(x_MPCL).float().log()
    numbers = torch.stack(
        [
            log_length_ratio(x_MPCL),
            log_MP.mean(dim=1),
            1 - aligned_correlation(x_MPCL),
        ],
        dim=-1,
    )
    return torch.cat([(one + other) / 2, (one - other).abs(), numbers], dim=-1)


def type_scaling(
    feature_MF: torch.Tensor, chromosome_M: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of features per chromosome type, each (24, F).

    Types with fewer than two pairs get the values over all pairs.
    """
    centre = feature_MF.mean(dim=0).repeat(NUM_TYPES, 1)
    spread = feature_MF.std(dim=0).repeat(NUM_TYPES, 1)
    for chromosome in chromosome_M.unique().tolist():
        own = feature_MF[chromosome_M == chromosome]
        if len(own) > 1:
            centre[chromosome], spread[chromosome] = own.mean(dim=0), own.std(dim=0)
    return centre, spread.clamp(min=1e-3)
