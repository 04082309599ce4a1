"""Fits the bands of a laboratory to its own chromosomes.

Each chromosome is condensed unevenly in its own way, so chromosomes of a type are registered first.
The darkness and visible length of each band of the 550 table are then fitted to their mean.

Shape suffixes: N homologs, U points along a chromosome stretched to unit length, W warp parameters,
B bands.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import erf, ndtr

from homnet.imaging.orientation import standardised
from homnet.karyotype.bands import band_table
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.realism.measures import INTERIOR, NUM_POINTS, Pairs
from homnet.simulator.atlas import APPEARANCE_LEVEL, BandAppearance, band_lengths
from homnet.simulator.laboratory import Laboratory
from homnet.simulator.staining import CUT_PX

Floats = NDArray[Any]

_U: Final = (np.arange(NUM_POINTS) + 0.5) / NUM_POINTS
_STEPS: Final = (0.03, 0.015, 0.007)
"""Step sizes of the warp search, as shares of the length."""
_WARP_COST: Final = 4.0
"""Penalty of a warp: the correlation that it must gain, per square of its parameters."""
_NUM_WARPS: Final = 5
"""Number of warp parameters: both ends and three sines."""
_DAMPING: Final = 0.5
"""Share of a correction applied in one step."""
_ROUNDS: Final = 4
"""Number of rounds of registering chromosomes with their mean."""
_WORST: Final = 0.1
"""Share of chromosomes excluded because they fit worst: upside down, or touching."""
_TIP_PX: Final = 1.0
"""Distance from the tips within which the mean is not fitted."""
_NOISE: Final = 0.03
"""Standard deviation of the mean around its model, in units of the contrast."""
_STRETCH_SD: Final = 0.25
_DARKNESS_SD: Final = 0.3
"""Prior standard deviations from the ideogram: log length and darkness of a band."""
_BLUR_PX: Final = 2.0
"""Blur of a mean: that of the microscope plus the residual of registration."""


def registered_means(pairs: Pairs) -> dict[str, Floats]:
    """Returns the mean darkness (U,) per type, after registration of its chromosomes.

    Args:
        pairs: normal pairs, including single homologs.
    """
    present_NP = pairs.num_samples_NP > 0
    darkness_NPU = pairs.stretched_NPCU().mean(axis=2)
    means = {}
    for number, name in enumerate(CHROMOSOMES):
        chosen_NP = present_NP & (pairs.frame["chromosome"].to_numpy() == number)[:, None]
        if chosen_NP.any():
            means[name] = _registered_mean(darkness_NPU[chosen_NP])
    return means


def median_lengths(pairs: Pairs) -> dict[str, float]:
    """Returns the median chromosome length per type in pixels, including single homologs."""
    length_NP = pairs.num_samples_NP / pairs.samples_per_px
    found = {}
    for number, name in enumerate(CHROMOSOMES):
        of_type_NP = length_NP[pairs.frame["chromosome"].to_numpy() == number]
        if of_type_NP.any():
            found[name] = float(np.median(of_type_NP[of_type_NP > 0]))
    return found


def corrected(
    shown: Mapping[str, Floats], wanted: Mapping[str, Floats], simulated: Mapping[str, Floats]
) -> dict[str, Floats]:
    """Returns the next target means, so that simulated chromosomes approach the real means.

    Registration and blur affect real and simulated means alike, so half of the remaining difference
    is added here.

    Args:
        shown: means to which the bands were fitted.
        wanted: means of the real chromosomes.
        simulated: means of chromosomes simulated with those bands.
    """
    found = dict(shown)
    for name in wanted.keys() & simulated.keys():
        mean_1U = simulated[name][None]
        # A global shift of a registered mean is not a difference of bands.
        warp_1W, _ = _register(
            standardised(mean_1U), standardised(wanted[name]), np.zeros((1, _NUM_WARPS), np.float32)
        )
        found[name] = shown[name] + _DAMPING * (wanted[name] - _warped(mean_1U, warp_1W)[0])
    return found


def fit_bands(
    mean_by_type: Mapping[str, Floats], length_px: Mapping[str, float], laboratory: Laboratory
) -> BandAppearance:
    """Fits the darkness and visible length of every band.

    Args:
        mean_by_type: registered mean darkness (U,) of each type, grey levels.
        length_px: median length of each type.
        laboratory: provides scale, darkness, contrast and tips.

    Returns:
        The bands; types without a mean keep those of the ideogram.
    """
    darkness, stretch = [], []
    for name in CHROMOSOMES:
        bands = band_table(APPEARANCE_LEVEL)[name].bands
        dark_B = np.array([band.darkness for band in bands])
        long_B = band_lengths(name)
        stretch_B = np.ones(len(bands))
        if name in mean_by_type:
            dark_B, stretch_B = _fit_type(
                mean_by_type[name], length_px[name], dark_B, long_B, laboratory
            )
        darkness.append(tuple(dark_B.tolist()))
        stretch.append(tuple(stretch_B.tolist()))
    return BandAppearance(tuple(darkness), tuple(stretch))


def _registered_mean(darkness_NU: Floats) -> Floats:
    """Returns the registered mean darkness (U,) of chromosomes of one type."""
    shape_NU = standardised(darkness_NU)
    mean_U = np.median(shape_NU, axis=0)
    warp_NW = np.zeros((len(shape_NU), _NUM_WARPS), np.float32)
    for _ in range(_ROUNDS):
        warp_NW, fit_N = _register(shape_NU, mean_U, warp_NW)
        warp_NW -= np.median(warp_NW, axis=0)
        warped_NU = _warped(shape_NU, warp_NW)
        good_N = fit_N >= np.quantile(fit_N, _WORST)
        mean_U = standardised(warped_NU[good_N].mean(axis=0))
    found: Floats = _warped(darkness_NU, warp_NW)[good_N].mean(axis=0)
    return found


def _register(shape_NU: Floats, mean_U: Floats, warp_NW: Floats) -> tuple[Floats, Floats]:
    """Optimises the warps one parameter at a time; returns the warps and the quality of fit."""
    wanted_U = standardised(mean_U[INTERIOR])

    def fit(tried_NW: Floats) -> Floats:
        inside_NU = standardised(_warped(shape_NU, tried_NW)[:, INTERIOR])
        cost_N: Floats = _WARP_COST * np.square(tried_NW).sum(axis=1)
        fit_N: Floats = (inside_NU * wanted_U).mean(axis=1) - cost_N
        return fit_N

    warp_NW = warp_NW.copy()
    best_N = fit(warp_NW)
    for step in _STEPS:
        for _ in range(2):
            for parameter in range(warp_NW.shape[1]):
                for change in (-step, step):
                    tried_NW = warp_NW.copy()
                    tried_NW[:, parameter] += change
                    tried_N = fit(tried_NW)
                    better_N = tried_N > best_N
                    warp_NW[better_N], best_N[better_N] = tried_NW[better_N], tried_N[better_N]
    return warp_NW, best_N


def _warped(values_NU: Floats, warp_NW: Floats) -> Floats:
    """Returns values at warped points: both ends moved, and three sines that are 0 at the ends."""
    start, stop, *sines = (warp_NW[:, i, None] for i in range(warp_NW.shape[1]))
    at_NU = start + (1 + stop - start) * _U
    for order, sine in enumerate(sines, start=1):
        at_NU = at_NU + sine * np.sin(order * np.pi * _U)
    at_NU = np.clip(at_NU * NUM_POINTS - 0.5, 0, NUM_POINTS - 1)
    low_NU = np.minimum(at_NU.astype(np.int64), NUM_POINTS - 2)
    weight_NU = (at_NU - low_NU).astype(np.float32)
    low, high = (np.take_along_axis(values_NU, low_NU + i, axis=1) for i in (0, 1))
    warped: Floats = low + weight_NU * (high - low)
    return warped


def _fit_type(
    mean_U: Floats, length_px: float, dark_B: Floats, long_B: Floats, laboratory: Laboratory
) -> tuple[Floats, Floats]:
    """Returns the darkness and stretch of the bands of one type that best explain its mean."""
    from_tip_U = np.minimum(_U, 1 - _U) * length_px
    inside_U = from_tip_U > _TIP_PX
    left_U = erf((from_tip_U + CUT_PX) / (np.sqrt(2.0) * laboratory.end_px))
    seen_U = (mean_U - (1 - left_U) * laboratory.edge) / left_U
    wanted_U = ((seen_U - laboratory.darkness) / laboratory.contrast + 0.5)[inside_U]
    body_px = length_px - 2 * laboratory.halo_px
    at_U = (_U * length_px - laboratory.halo_px) / body_px
    num_bands = len(dark_B)

    def residuals(tried: Floats) -> Floats:
        log_B, tried_B = tried[:num_bands], tried[num_bands:]
        border = np.cumsum(long_B * np.exp(log_B))
        border = np.concatenate([[-np.inf], border[:-1] / border[-1], [np.inf]])
        share_UB = -np.diff(ndtr((at_U[inside_U, None] - border) * (body_px / _BLUR_PX)), axis=1)
        return np.concatenate(
            [
                left_U[inside_U] * (share_UB @ tried_B - wanted_U) / _NOISE,
                log_B / _STRETCH_SD,
                (tried_B - dark_B) / _DARKNESS_SD,
            ]
        )

    start = np.concatenate([np.zeros(num_bands), dark_B])
    found = least_squares(residuals, start).x
    long = long_B * np.exp(found[:num_bands])
    wanted_length = body_px / laboratory.px_per_iscn
    return found[num_bands:], long * (wanted_length / long.sum()) / long_B
