"""From segments to sequences: how a laboratory's microscope shows the chromosomes of a batch.

Band densities are looked up for every sample of every chromosome at once, through condensation,
uneven stretching and the segments of the homolog; then come the differences between homologs and
chromatids, blur, staining and noise. There is no loop over rows, homologs or positions.

Shape suffixes: H different homologs, S segments, G cells, N pairs, P homologs of a pair (2), C
chromatids (2: left, right), L positions (512), E landmarks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import upfirdn
from scipy.signal.windows import gaussian
from scipy.special import erfc

from homnet.karyotype.chromosomes import BAND_LEVELS, SEQUENCE_LENGTH
from homnet.simulator.atlas import BIN_ISCN, Atlas, BandAppearance, atlas_of
from homnet.simulator.genome import Homolog
from homnet.simulator.laboratory import Laboratory

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_LENGTH_PER_LEVEL: Final = 0.3
"""Exponent of the length against the band level: longer chromosomes show more bands."""
TEXTURE_KNOTS: Final = (2, 5, 16)
"""Samples between the knots of the texture at each of its scales."""
_END_REACH_PX: Final = 4.0
"""Pixels over which what is peculiar to an end falls to a third."""
_TIP_CERTAINTY: Final = 0.7
"""Part of what is peculiar to a chromosome or a chromatid that is lost at the very tips."""
CUT_PX: Final = 0.55
"""Pixels by which an image is cut inside a chromosome's end, where it has not faded altogether: the
tips of dark bands are darker than those of light ones."""
_BEND_ISCN: Final = 10000.0
"""Length at which the bending angle is the laboratory's."""
_LARGEST_BEND: Final = 4.2
"""Angle in radians that a long chromosome does not exceed: one that closes to a ring is not taken
for one."""
_ABSOLUTE_CUT: Final = 0.6
"""Part of a chromosome's own darkness that its ends lack: images are cut at one threshold."""
_HANGING: Final = 0.7
_HANGING_FREEDOM: Final = 4.0
"""Scale, relative to the difference of the chromatids' tips, and degrees of freedom of Student's t,
of what differs below the tips: now and then a chromatid's end hangs off."""
_BEND_LIMIT_GROWTH: Final = 0.25
"""Exponent of that limit against the length: short chromosomes cannot turn as far."""
_GUMBEL_MEDIAN: Final = -np.log(np.log(2.0))
_GUMBEL_SD: Final = np.pi / np.sqrt(6.0)
_EDGE_SKEW: Final = 0.6
"""Sigma of the lognormal by which ends are darker than the threshold where images are cut."""
_SKEWED_MEAN: Final = np.float32(np.exp(_EDGE_SKEW**2 / 2))
_SKEWED_SD: Final = float(_SKEWED_MEAN) * np.sqrt(np.expm1(_EDGE_SKEW**2))
_MIN_SAMPLES: Final = 24
"""Fewest samples of a chromosome, however condensed."""


@dataclass(frozen=True)
class HomologTable:
    """The different homologs of a batch as padded arrays."""

    length_H: Floats
    """Visible length, ISCN units."""
    border_HS: Floats
    """Position where each segment begins, infinite beyond the last one."""
    offset_HS: Floats
    """Atlas bin of position 0, if the segment reached there."""
    slope_HS: Floats
    """Atlas bins per ISCN unit; negative in inverted segments."""


@dataclass(frozen=True)
class Batch:
    """What is to be rendered: N pairs from G cells of one person."""

    homologs: HomologTable
    """The different homologs."""
    homolog_NP: Integers
    """Row of the table in each slot, -1 for none."""
    cell_N: Integers
    """Cell of each pair, 0..G-1."""
    level_G: Integers
    """Index into ``BAND_LEVELS`` of each cell."""
    landmark_HE: Floats
    """Places on each homolog that are to be found on its sequence, ISCN units; nan for none."""


@dataclass(frozen=True)
class Rendering:
    """Sequences and what is known about them."""

    pair_NPCL: NDArray[np.uint8]
    """Darkness, 1..255 on a chromosome, 0 beyond it and in empty slots."""
    straightness_N: Floats
    """Chord over arc length of the more bent homolog."""
    width_variation_N: Floats
    """Standard deviation of the width over its mean, of the more uneven homolog."""
    too_long_N: NDArray[np.bool_]
    """Whether a homolog reached beyond the last position and was cut off there."""
    landmark_NPE: Integers
    """Nearest position to each landmark, -1 for none."""


def tabulate(homologs: Sequence[Homolog], bands: BandAppearance | None = None) -> HomologTable:
    """Packs homologs into arrays, padded to the largest number of segments."""
    atlas = atlas_of(bands)
    shape = (len(homologs), max(len(homolog.segments) for homolog in homologs))
    border = np.full(shape, np.inf, np.float32)
    offset, slope = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    lengths = np.zeros(len(homologs), np.float32)
    for h, homolog in enumerate(homologs):
        at = 0.0
        for s, segment in enumerate(homolog.segments):
            step = (-1.0 if segment.inverted else 1.0) / (segment.stretch * BIN_ISCN)
            begin = segment.stop if segment.inverted else segment.start
            begin = atlas.visible(segment.chromosome, begin)
            border[h, s], slope[h, s] = at, step
            offset[h, s] = atlas.first_bin[segment.chromosome] + begin / BIN_ISCN - step * at
            at += atlas.visible_length(segment)
        lengths[h] = at
    return HomologTable(lengths, border, offset, slope)


def seen_at(homolog: Homolog, position: float, bands: BandAppearance | None = None) -> float:
    """Where a position on a homolog is seen when its bands have other lengths, ISCN units both."""
    atlas, at, seen = atlas_of(bands), 0.0, 0.0
    for segment in homolog.segments:
        inside = segment.part(0.0, min(max(position - at, 0.0), segment.length_iscn))
        seen += atlas.visible_length(inside)
        at += segment.length_iscn
    return seen


def straightness(
    length_iscn: Floats, laboratory: Laboratory, generator: np.random.Generator
) -> Floats:
    """Chord over arc length of chromosomes of given lengths, each bent to a part of a circle."""
    # Most chromosomes are nearly straight, and some much bent: Gumbel's, not a normal, logarithm.
    deviation = (generator.gumbel(size=length_iscn.shape) - _GUMBEL_MEDIAN) / _GUMBEL_SD
    angle = laboratory.bend * np.exp(laboratory.bend_spread * deviation)
    share = length_iscn / _BEND_ISCN
    angle *= share**laboratory.bend_growth
    angle /= np.sqrt(1 + np.square(angle / (_LARGEST_BEND * share**_BEND_LIMIT_GROWTH)))
    found: Floats = np.sinc(angle / (2 * np.pi))
    return found


def render(batch: Batch, laboratory: Laboratory, generator: np.random.Generator) -> Rendering:
    """Renders a batch.

    Args:
        batch: pairs of one person.
        laboratory: equipment and preparation.
        generator: source of all randomness.
    """
    present_NP = batch.homolog_NP >= 0
    row_NP = np.maximum(batch.homolog_NP, 0)
    position_NPL, total_NP, log_NP = _positions(batch, row_NP, laboratory, generator)
    density_NPL = _densities(batch, row_NP, position_NPL, atlas_of(laboratory.bands))
    straight_NP = straightness(batch.homologs.length_H[row_NP], laboratory, generator)
    darkness_NPCL = _stain(batch, density_NPL, total_NP, log_NP, laboratory, generator)
    pair_NPCL = np.clip(np.rint(darkness_NPCL), 1, 255).astype(np.uint8)
    on_NPL = (np.arange(SEQUENCE_LENGTH) < total_NP[..., None]) & present_NP[..., None]
    pair_NPCL *= on_NPL[:, :, None]
    straight_NP = np.where(present_NP, straight_NP, 1.0)
    length_NP = np.maximum(total_NP / laboratory.samples_per_px, 1)
    # The centromere's constriction and the round ends make up more of a short chromosome.
    width_NP = (0.09 + 3.2 / length_NP) * np.exp(_normal(generator, row_NP.shape, 0.22))
    return Rendering(
        pair_NPCL=pair_NPCL,
        straightness_N=straight_NP.min(axis=1).astype(np.float32),
        width_variation_N=np.where(present_NP, width_NP, 0).max(axis=1).astype(np.float32),
        too_long_N=np.any((total_NP > SEQUENCE_LENGTH) & present_NP, axis=1),
        landmark_NPE=_landmark_positions(batch, position_NPL, on_NPL),
    )


def _positions(
    batch: Batch, row_NP: Integers, laboratory: Laboratory, generator: np.random.Generator
) -> tuple[Floats, Integers, Floats]:
    """Where on its homolog each sample lies.

    Returns:
        Position (N, P, L) in ISCN units, the number of samples (N, P), and the log (N, P) of the
        length over what is usual.
    """
    num_cells, num_pairs = len(batch.level_G), len(row_NP)
    level = np.log(BAND_LEVELS)
    typical = float(np.dot(laboratory.band_levels, level))
    cell_G = _LENGTH_PER_LEVEL * (level[batch.level_G] - typical)
    cell_G = cell_G + _normal(generator, num_cells, laboratory.condensation_sd)
    log_NP = (
        cell_G[batch.cell_N][:, None]
        + _normal(generator, (num_pairs, 1), laboratory.type_length_sd)
        + laboratory.length_sd * generator.standard_t(6.0, row_NP.shape)
    )
    length_NP = batch.homologs.length_H[row_NP]
    body_NP = (laboratory.px_per_iscn * length_NP * np.exp(log_NP)).astype(np.float32)
    tip_NP2 = laboratory.halo_px + _normal(generator, (*row_NP.shape, 2), laboratory.tip_px)
    total_NP = np.rint((body_NP + tip_NP2.sum(axis=-1)) * laboratory.samples_per_px)
    total_NP = np.maximum(total_NP, _MIN_SAMPLES).astype(np.int64)

    px_L = (np.arange(SEQUENCE_LENGTH, dtype=np.float32) + 0.5) / np.float32(
        laboratory.samples_per_px
    )
    depth_NPL = px_L - tip_NP2[..., :1]
    share_NPL: Floats = np.clip(depth_NPL / body_NP[..., None], 0, 1)
    # Sines vanish at both ends: a chromosome is stretched here and squeezed there.
    angle_NPL = np.float32(np.pi) * share_NPL
    sin_NPL, cos_NPL = np.sin(angle_NPL), np.cos(angle_NPL)
    one, two, three = (
        _normal(generator, (*row_NP.shape, 1), laboratory.warp / order) for order in (1, 2, 3)
    )
    # sin 2a = 2 sin a cos a and sin 3a = sin a (4 cos^2 a - 1).
    share_NPL += sin_NPL * (one + cos_NPL * (2 * two + 4 * three * cos_NPL) - three)
    upside_NP = generator.random(row_NP.shape) < laboratory.flip_rate
    np.subtract(1, share_NPL, out=share_NPL, where=upside_NP[..., None])
    share_NPL *= length_NP[..., None]
    return share_NPL, total_NP, log_NP.astype(np.float32)


def _densities(batch: Batch, row_NP: Integers, position_NPL: Floats, atlas: Atlas) -> Floats:
    """Band density 0..1 (N, P, L) at the positions, at the band level of each pair's cell."""
    table = batch.homologs
    num_segments = table.border_HS.shape[1]
    segment_NPL = np.zeros(position_NPL.shape, np.int32)
    for s in range(1, num_segments):
        segment_NPL += position_NPL >= table.border_HS[row_NP, s][..., None]
    flat_NPL = segment_NPL + (row_NP * num_segments).astype(np.int32)[..., None]
    bin_NPL = table.offset_HS.ravel()[flat_NPL]
    bin_NPL += table.slope_HS.ravel()[flat_NPL] * position_NPL
    level_N = batch.level_G[batch.cell_N]
    bins_NPL = bin_NPL.astype(np.int32)
    bins_NPL += (level_N * atlas.density_VB.shape[1]).astype(np.int32)[:, None, None]
    density_NPL: Floats = atlas.density_VB.ravel()[bins_NPL]
    return density_NPL


def _stain(
    batch: Batch,
    density_NPL: Floats,
    total_NP: Integers,
    log_NP: Floats,
    laboratory: Laboratory,
    generator: np.random.Generator,
) -> Floats:
    """Darkness (N, P, C, L) in grey levels of densities under the microscope."""
    each_NP, each_NPC = total_NP.shape, (*total_NP.shape, 2)
    sharp, soft = (
        gaussian_filter1d(density_NPL, px * laboratory.samples_per_px, truncate=3, mode="nearest")
        for px in (laboratory.blur_px, laboratory.defocus_px)
    )
    focus_G = generator.random(len(batch.level_G), np.float32) ** 2
    sharp += focus_G[batch.cell_N][:, None, None] * (soft - sharp)
    level_G = (
        laboratory.darkness
        + _normal(generator, 1, laboratory.person_darkness_sd)
        + _normal(generator, len(batch.level_G), laboratory.cell_darkness_sd)
    )
    offset_NP = level_G[batch.cell_N][:, None] + _normal(generator, each_NP, laboratory.offset_sd)
    offset_NP -= np.float32(laboratory.condensed_darkness) * log_NP
    # Where staining is dark on the whole, the camera has less left to tell bands apart.
    response_NP = np.exp(laboratory.saturation * (laboratory.darkness - offset_NP))
    gain_NP = response_NP * np.exp(_normal(generator, each_NP, laboratory.gain_sd))
    cell_gain_G = np.exp(_normal(generator, len(batch.level_G), laboratory.cell_gain_sd))
    gain_NP *= laboratory.contrast * cell_gain_G[batch.cell_N][:, None]
    gain_NP *= np.exp(-laboratory.condensed_gain * log_NP)
    shared_NPL = offset_NP[..., None] + gain_NP[..., None] * (sharp - np.float32(0.5))

    # An image is cut where it is as dark as a chromosome's edge: tips are alike, whether the last
    # band is dark or light. Sister chromatids lie side by side, but not exactly.
    at_L = np.arange(SEQUENCE_LENGTH, dtype=np.float32) / np.float32(laboratory.samples_per_px)
    last_NP1 = ((total_NP[..., None] - 1) / laboratory.samples_per_px).astype(np.float32)
    fade_NPL, edge_NPL, uneven_NPL = (np.zeros_like(shared_NPL) for _ in range(3))
    each_NP1 = (*each_NP, 1)
    shift_NPL = _smooth_noise(generator, each_NP1, TEXTURE_KNOTS[-1], laboratory.shift_px)[:, :, 0]
    for from_end_NPL in (at_L, np.abs(last_NP1 - at_L)):
        # What is lighter than the threshold was not taken for chromosome.
        skewed_NP1 = np.exp(_normal(generator, each_NP1, _EDGE_SKEW))
        edge_NP1 = np.float32(laboratory.edge_sd / _SKEWED_SD) * (skewed_NP1 - _SKEWED_MEAN)
        uneven_NP1, spread_NP1, beyond_NP1 = (
            _normal(generator, each_NP1, sd)
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
    differ_NPL += _normal(generator, each_NP1, laboratory.chromatid_offset / np.sqrt(2))

    darkness_NPCL = np.zeros((*each_NPC, SEQUENCE_LENGTH), np.float32)
    spread_G = _normal(generator, len(batch.level_G), laboratory.cell_texture_spread)
    for scale, knot in enumerate(TEXTURE_KNOTS):
        texture_NPCL = _smooth_noise(
            generator,
            each_NPC,
            knot,
            laboratory.chromatid_texture[scale],
            laboratory.homolog_texture[scale],
            laboratory.pair_texture[scale],
        )
        spread_NP = spread_G[batch.cell_N][:, None] + _normal(
            generator, each_NP, laboratory.texture_spread[scale]
        )
        if knot == TEXTURE_KNOTS[-1]:
            # Uneven staining is about the mean of a chromosome, which varies by itself.
            texture_NPCL -= _mean_inside(texture_NPCL, total_NP)
        darkness_NPCL += texture_NPCL * (response_NP * np.exp(spread_NP))[..., None, None]
    # The tip is where both chromatids together are as dark as an edge; they may still differ.
    shared_NPL += (1 - fade_NPL) * darkness_NPCL.mean(axis=2)
    differ_NPL += (
        (1 - _TIP_CERTAINTY * fade_NPL) * (darkness_NPCL[:, :, 0] - darkness_NPCL[:, :, 1]) / 2
    )
    darkness_NPCL[:, :, 0] = shared_NPL + differ_NPL
    darkness_NPCL[:, :, 1] = shared_NPL - differ_NPL
    return darkness_NPCL


def _landmark_positions(batch: Batch, position_NPL: Floats, on_NPL: NDArray[np.bool_]) -> Integers:
    """The sample (N, P, E) nearest to each landmark, -1 for none."""
    landmark_NPE = np.where(
        (batch.homolog_NP >= 0)[..., None], batch.landmark_HE[batch.homolog_NP], np.nan
    )
    nearest_NPE = np.full(landmark_NPE.shape, -1, np.int64)
    n, p, e = np.nonzero(np.isfinite(landmark_NPE))
    # The nearest sample serves upside-down chromosomes too, where positions fall.
    miss = np.abs(position_NPL[n, p] - landmark_NPE[n, p, e][:, None])
    nearest_NPE[n, p, e] = np.where(on_NPL[n, p], miss, np.inf).argmin(axis=-1)
    return nearest_NPE


def _mean_inside(values_NPCL: Floats, total_NP: Integers) -> Floats:
    """Mean (N, P, 1, 1) over both chromatids of the samples on each chromosome."""
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
    """Noise (N, P, C, L) that changes over ``knot`` samples, of chromatids, homologs and pairs."""
    reach = 2 * knot
    window = gaussian(2 * reach + 1, 0.8 * knot).astype(np.float32)
    window /= np.sqrt((window**2).sum() / knot)
    num_knots = SEQUENCE_LENGTH // knot + 6
    knots = _normal(generator, (*shape_NPC, num_knots), chromatid_sd)
    knots += _normal(generator, (*shape_NPC[:2], 1, num_knots), homolog_sd)
    knots += _normal(generator, (shape_NPC[0], 1, 1, num_knots), pair_sd)
    noise: Floats = upfirdn(window, knots, up=knot)
    return noise[..., 2 * reach : 2 * reach + SEQUENCE_LENGTH]


def _normal(generator: np.random.Generator, shape: int | tuple[int, ...], sd: float) -> Floats:
    return np.float32(sd) * generator.standard_normal(shape, np.float32)
