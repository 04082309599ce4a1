"""Converts band densities to grey levels: staining, microscope, and their variation.

Variation between cells, homologs and chromatids is drawn here: level and contrast of the staining,
texture, blur, and the cut ends.

Shape suffixes: G cells, N pairs, P homologs of a pair (2), C chromatids (2: left, right), L
positions (512).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import upfirdn
from scipy.signal.windows import gaussian
from scipy.special import erfc

from homnet.karyotype.chromosomes import SEQUENCE_LENGTH
from homnet.simulator.laboratory import Laboratory

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

TEXTURE_KNOTS: Final = (2, 5, 16)
"""Number of samples between the knots of the texture, per scale."""
_END_REACH_PX: Final = 4.0
"""Distance over which an end-specific deviation falls to a third, pixels."""
_TIP_CERTAINTY: Final = 0.7
"""Share of the chromosome- or chromatid-specific deviation that is lost at the tips."""
CUT_PX: Final = 0.55
"""Distance inside a chromosome's end at which an image is cut, pixels. The chromosome has not fully
faded there: tips of dark bands are darker than those of light ones."""
_ABSOLUTE_CUT: Final = 0.6
"""Share of a chromosome's own darkness missing at its ends, because of the fixed threshold."""
_HANGING: Final = 0.7
_HANGING_FREEDOM: Final = 4.0
"""Scale, relative to the difference of the chromatids' tips, and degrees of freedom of Student's t,
for the difference below the tips: occasionally the end of a chromatid hangs off."""
_EDGE_SKEW: Final = 0.6
"""Sigma of the lognormal excess of the darkness of ends over the cut threshold."""
_SKEWED_MEAN: Final = np.float32(np.exp(_EDGE_SKEW**2 / 2))
_SKEWED_SD: Final = float(_SKEWED_MEAN) * np.sqrt(np.expm1(_EDGE_SKEW**2))


def stain(
    density_NPL: Floats,
    total_NP: Integers,
    log_NP: Floats,
    cell_N: Integers,
    num_cells: int,
    laboratory: Laboratory,
    generator: np.random.Generator,
) -> Floats:
    """Returns the darkness (N, P, C, L) of chromosomes under the microscope, grey levels.

    Args:
        density_NPL: band density at each sample, 0..1.
        total_NP: number of samples of each chromosome; may exceed the number of positions.
        log_NP: log ratio of its length to the usual one.
        cell_N: cell of each pair, 0..num_cells - 1.
        num_cells: number of cells of the person.
        laboratory: its staining, microscope and camera.
        generator: source of all randomness.
    """
    each_NP, each_NPC = total_NP.shape, (*total_NP.shape, 2)
    sharp, soft = (
        gaussian_filter1d(density_NPL, px * laboratory.samples_per_px, truncate=3, mode="nearest")
        for px in (laboratory.blur_px, laboratory.defocus_px)
    )
    focus_G = generator.random(num_cells, np.float32) ** 2
    sharp += focus_G[cell_N][:, None, None] * (soft - sharp)
    level_G = (
        laboratory.darkness
        + normal(generator, 1, laboratory.person_darkness_sd)
        + normal(generator, num_cells, laboratory.cell_darkness_sd)
    )
    offset_NP = level_G[cell_N][:, None] + normal(generator, each_NP, laboratory.offset_sd)
    offset_NP -= np.float32(laboratory.condensed_darkness) * log_NP
    # The darker the staining, the less range the camera has left for contrast.
    response_NP = np.exp(laboratory.saturation * (laboratory.darkness - offset_NP))
    gain_NP = response_NP * np.exp(normal(generator, each_NP, laboratory.gain_sd))
    cell_gain_G = np.exp(normal(generator, num_cells, laboratory.cell_gain_sd))
    gain_NP *= laboratory.contrast * cell_gain_G[cell_N][:, None]
    gain_NP *= np.exp(-laboratory.condensed_gain * log_NP)
    shared_NPL = offset_NP[..., None] + gain_NP[..., None] * (sharp - np.float32(0.5))

    # Images are cut at the darkness of an edge, so tips are alike for dark and light last bands.
    # Sister chromatids lie side by side, but not exactly.
    at_L = np.arange(SEQUENCE_LENGTH, dtype=np.float32) / np.float32(laboratory.samples_per_px)
    last_NP1 = ((total_NP[..., None] - 1) / laboratory.samples_per_px).astype(np.float32)
    fade_NPL, edge_NPL, uneven_NPL = (np.zeros_like(shared_NPL) for _ in range(3))
    each_NP1 = (*each_NP, 1)
    shift_NPL = _smooth_noise(generator, each_NP1, TEXTURE_KNOTS[-1], laboratory.shift_px)[:, :, 0]
    for from_end_NPL in (at_L, np.abs(last_NP1 - at_L)):
        # Pixels lighter than the threshold are not part of the chromosome.
        skewed_NP1 = np.exp(normal(generator, each_NP1, _EDGE_SKEW))
        edge_NP1 = np.float32(laboratory.edge_sd / _SKEWED_SD) * (skewed_NP1 - _SKEWED_MEAN)
        uneven_NP1, spread_NP1, beyond_NP1 = (
            normal(generator, each_NP1, sd)
            for sd in (laboratory.uneven_edge, laboratory.end_spread, laboratory.edge_px)
        )
        width_NP1 = np.float32(np.sqrt(2) * laboratory.end_px) * np.exp(spread_NP1)
        fade = erfc((from_end_NPL + CUT_PX + beyond_NP1) / width_NP1)
        edge_NP1 = edge_NP1 - np.float32(laboratory.condensed_ends) * log_NP[..., None]
        edge_NP1 -= np.float32(_ABSOLUTE_CUT) * (offset_NP - laboratory.darkness)[..., None]
        near_NPL = np.exp(-from_end_NPL / _END_REACH_PX)
        edge_NPL += edge_NP1 * near_NPL * (1 - _TIP_CERTAINTY * fade)
        hanging_NP1 = _HANGING * generator.standard_t(_HANGING_FREEDOM, each_NP1)
        hanging_NP1 = (laboratory.uneven_edge * hanging_NP1).astype(np.float32)
        uneven_NPL += (uneven_NP1 + (1 - fade) * hanging_NP1) * near_NPL
        np.maximum(fade_NPL, fade, out=fade_NPL)
    shared_NPL += fade_NPL * (laboratory.edge - shared_NPL) + edge_NPL
    differ_NPL = shift_NPL * np.gradient(shared_NPL, axis=-1) * laboratory.samples_per_px
    differ_NPL *= 1 - fade_NPL
    differ_NPL += uneven_NPL
    differ_NPL += normal(generator, each_NP1, laboratory.chromatid_offset / np.sqrt(2))

    darkness_NPCL = np.zeros((*each_NPC, SEQUENCE_LENGTH), np.float32)
    spread_G = normal(generator, num_cells, laboratory.cell_texture_spread)
    for scale, knot in enumerate(TEXTURE_KNOTS):
        texture_NPCL = _smooth_noise(
            generator,
            each_NPC,
            knot,
            laboratory.chromatid_texture[scale],
            laboratory.homolog_texture[scale],
            laboratory.pair_texture[scale],
        )
        spread_NP = spread_G[cell_N][:, None] + normal(
            generator, each_NP, laboratory.texture_spread[scale]
        )
        if knot == TEXTURE_KNOTS[-1]:
            # Texture does not change the mean of a chromosome, which varies separately.
            texture_NPCL -= _mean_inside(texture_NPCL, total_NP)
        darkness_NPCL += texture_NPCL * (response_NP * np.exp(spread_NP))[..., None, None]
    # At the tip the mean of both chromatids equals the edge darkness; they may still differ.
    shared_NPL += (1 - fade_NPL) * darkness_NPCL.mean(axis=2)
    differ_NPL += (
        (1 - _TIP_CERTAINTY * fade_NPL) * (darkness_NPCL[:, :, 0] - darkness_NPCL[:, :, 1]) / 2
    )
    darkness_NPCL[:, :, 0] = shared_NPL + differ_NPL
    darkness_NPCL[:, :, 1] = shared_NPL - differ_NPL
    return darkness_NPCL


def _mean_inside(values_NPCL: Floats, total_NP: Integers) -> Floats:
    """Returns the mean (N, P, 1, 1) over both chromatids of the samples on each chromosome."""
    on_NPL = np.arange(SEQUENCE_LENGTH) < total_NP[..., None]
    summed_NP = np.einsum("npcl,npl->np", values_NPCL, on_NPL.astype(np.float32))
    mean: Floats = (summed_NP / (2 * np.minimum(total_NP, SEQUENCE_LENGTH))).astype(np.float32)
    return mean[..., None, None]


def _smooth_noise(
    generator: np.random.Generator,
    shape_NPC: tuple[int, int, int],
    knot: int,
    chromatid_sd: float,
    homolog_sd: float = 0.0,
    pair_sd: float = 0.0,
) -> Floats:
    """Noise (N, P, C, L), per chromatid, homolog and pair; a knot every ``knot`` samples."""
    reach = 2 * knot
    window = gaussian(2 * reach + 1, 0.8 * knot).astype(np.float32)
    window /= np.sqrt((window**2).sum() / knot)
    num_knots = SEQUENCE_LENGTH // knot + 6
    knots = normal(generator, (*shape_NPC, num_knots), chromatid_sd)
    knots += normal(generator, (*shape_NPC[:2], 1, num_knots), homolog_sd)
    knots += normal(generator, (shape_NPC[0], 1, 1, num_knots), pair_sd)
    noise: Floats = upfirdn(window, knots, up=knot)
    return noise[..., 2 * reach : 2 * reach + SEQUENCE_LENGTH]


def normal(generator: np.random.Generator, shape: int | tuple[int, ...], sd: float) -> Floats:
    """Returns normal deviates of mean 0, 32-bit."""
    return np.float32(sd) * generator.standard_normal(shape, np.float32)
