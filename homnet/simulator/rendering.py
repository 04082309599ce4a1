"""From segments to sequences: how a laboratory's microscope shows the chromosomes of a batch.

Band densities are looked up for every sample of every chromosome at once, through condensation,
uneven stretching and the segments of the homolog; then come the differences between homologs and
chromatids, blur, staining and noise. There is no loop over rows, homologs or positions.

Shape suffixes: H different homologs, S segments, G cells, N pairs, P homologs of a pair (2), C
chromatids (2: left, right), L positions (512).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import upfirdn
from scipy.signal.windows import gaussian

from homnet.bands import band_table
from homnet.chromosomes import BAND_LEVELS, CHROMOSOMES, SEQUENCE_LENGTH
from homnet.simulator.genome import Homolog
from homnet.simulator.laboratory import Laboratory

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_BIN_ISCN: Final = 20.0
"""Step of the density atlas, half a sample of the finest camera."""
_MARGIN_BINS: Final = 4
"""Copies of a chromosome's outermost bin, so that rounding never reads its neighbour."""
_LENGTH_PER_LEVEL: Final = 0.3
"""Exponent of the length against the band level: longer chromosomes show more bands."""
_TEXTURE_KNOT: Final = 4
"""Samples between the knots of the texture, which is as fine as the point spread function."""
_SHADING_KNOT: Final = 24
"""Samples between the knots of uneven staining, which spans several bands."""
_BEND_LENGTH: Final = 0.4
"""Exponent of the bending angle against the length: long chromosomes bend more."""
_BEND_ISCN: Final = 10000.0
"""Length at which the bending angle is the laboratory's."""
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
    event_H2: Floats
    """Start and stop of the abnormality on each homolog, ISCN units; nan for none."""


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
    event_NP2: Integers
    """First position of the abnormality and the position after it; -1 for none."""


def tabulate(homologs: Sequence[Homolog]) -> HomologTable:
    """Packs homologs into arrays, padded to the largest number of segments."""
    _, first_bin = _atlas()
    shape = (len(homologs), max(len(homolog.segments) for homolog in homologs))
    border = np.full(shape, np.inf, np.float32)
    offset, slope = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for h, homolog in enumerate(homologs):
        at = 0.0
        for s, segment in enumerate(homolog.segments):
            step = (-1.0 if segment.inverted else 1.0) / (segment.stretch * _BIN_ISCN)
            begin = segment.stop if segment.inverted else segment.start
            border[h, s], slope[h, s] = at, step
            offset[h, s] = first_bin[segment.chromosome] + begin / _BIN_ISCN - step * at
            at += segment.length_iscn
    lengths = np.array([homolog.length_iscn for homolog in homologs], np.float32)
    return HomologTable(lengths, border, offset, slope)


def render(batch: Batch, laboratory: Laboratory, generator: np.random.Generator) -> Rendering:
    """Renders a batch.

    Args:
        batch: pairs of one person.
        laboratory: equipment and preparation.
        generator: source of all randomness.
    """
    present_NP = batch.homolog_NP >= 0
    row_NP = np.maximum(batch.homolog_NP, 0)
    position_NPL, inside_NPL, total_NP = _positions(batch, row_NP, laboratory, generator)
    density_NPL = _densities(batch, row_NP, position_NPL)
    bend_NP = np.abs(_normal(generator, row_NP.shape, laboratory.bend_sd))
    bend_NP *= (batch.homologs.length_H[row_NP] / _BEND_ISCN) ** _BEND_LENGTH
    darkness_NPCL = _stain(batch, density_NPL, bend_NP, laboratory, generator)
    darkness_NPCL *= _ends(inside_NPL, laboratory)[:, :, None]
    pair_NPCL = np.clip(np.rint(darkness_NPCL), 1, 255).astype(np.uint8)
    on_NPL = (np.arange(SEQUENCE_LENGTH) < total_NP[..., None]) & present_NP[..., None]
    pair_NPCL *= on_NPL[:, :, None]
    straight_NP = np.where(present_NP, np.sinc(bend_NP / (2 * np.pi)), 1.0)
    width_NP = 0.1 * np.exp(_normal(generator, row_NP.shape, 0.3)) + 0.03 * bend_NP
    return Rendering(
        pair_NPCL=pair_NPCL,
        straightness_N=straight_NP.min(axis=1).astype(np.float32),
        width_variation_N=np.where(present_NP, width_NP, 0).max(axis=1).astype(np.float32),
        too_long_N=np.any((total_NP > SEQUENCE_LENGTH) & present_NP, axis=1),
        event_NP2=_event_positions(batch, position_NPL, on_NPL),
    )


def _positions(
    batch: Batch, row_NP: Integers, laboratory: Laboratory, generator: np.random.Generator
) -> tuple[Floats, Floats, Integers]:
    """Where on its homolog each sample lies.

    Returns:
        Position (N, P, L) in ISCN units, distance (N, P, L) in pixels to the nearer end (negative
        outside the body), and the number of samples (N, P).
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
    inside_NPL: Floats = np.minimum(depth_NPL, body_NP[..., None] - depth_NPL)
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
    return share_NPL, inside_NPL, total_NP


def _densities(batch: Batch, row_NP: Integers, position_NPL: Floats) -> Floats:
    """Band density 0..1 (N, P, L) at the positions, at the band level of each pair's cell."""
    table = batch.homologs
    num_segments = table.border_HS.shape[1]
    segment_NPL = np.zeros(position_NPL.shape, np.int32)
    for s in range(1, num_segments):
        segment_NPL += position_NPL >= table.border_HS[row_NP, s][..., None]
    flat_NPL = segment_NPL + (row_NP * num_segments).astype(np.int32)[..., None]
    bin_NPL = table.offset_HS.ravel()[flat_NPL]
    bin_NPL += table.slope_HS.ravel()[flat_NPL] * position_NPL
    atlas, _ = _atlas()
    level_N = batch.level_G[batch.cell_N]
    bins_NPL = bin_NPL.astype(np.int32)
    bins_NPL += (level_N * atlas.shape[1]).astype(np.int32)[:, None, None]
    density_NPL: Floats = atlas.ravel()[bins_NPL]
    return density_NPL


def _stain(
    batch: Batch,
    density_NPL: Floats,
    bend_NP: Floats,
    laboratory: Laboratory,
    generator: np.random.Generator,
) -> Floats:
    """Darkness (N, P, C, L) in grey levels of densities under the microscope, without ends."""
    num_pairs, num_homologs, _ = density_NPL.shape
    each_NP, each_NPC = (num_pairs, num_homologs), (num_pairs, num_homologs, 2)
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
    offset_NPC = offset_NP[..., None] + _normal(generator, each_NPC, laboratory.chromatid_offset)
    gain_NP = laboratory.contrast * np.exp(_normal(generator, each_NP, laboratory.gain_sd))
    shared_NPL = gain_NP[..., None] * (sharp - np.float32(0.5))

    # The chromatids of a bent chromosome lie on its inner and its outer side.
    clean_NP = _normal(generator, each_NP, laboratory.texture_spread)
    texture_NP = np.exp(clean_NP - laboratory.texture_spread**2 / 2) * (0.7 + 0.35 * bend_NP)
    texture_NP *= 1 - 0.5 * focus_G[batch.cell_N][:, None]
    noise_NPCL = _smooth_noise(
        generator, each_NPC, _TEXTURE_KNOT, laboratory.chromatid_texture, laboratory.homolog_texture
    )
    noise_NPCL *= texture_NP[..., None, None]
    noise_NPCL += _smooth_noise(
        generator, each_NPC, _SHADING_KNOT, laboratory.chromatid_shading, laboratory.homolog_shading
    )
    noise_NPCL += shared_NPL[:, :, None]
    noise_NPCL += offset_NPC[..., None]
    noise_NPCL += _normal(generator, noise_NPCL.shape, laboratory.grain)
    return noise_NPCL


def _ends(inside_NPL: Floats, laboratory: Laboratory) -> Floats:
    """Share of the darkness (N, P, L) that is left near the ends, where a chromosome is rounded."""
    reach = 2.5 * laboratory.halo_px
    ends_NPL: Floats = np.clip(0.4 + 0.6 * (inside_NPL + laboratory.halo_px) / reach, 0.25, 1.0)
    return ends_NPL


def _event_positions(batch: Batch, position_NPL: Floats, on_NPL: NDArray[np.bool_]) -> Integers:
    """Samples (N, P, 2) from the start to after the stop of the abnormality, -1 for none."""
    event_NP2 = np.where(
        (batch.homolog_NP >= 0)[..., None], batch.event_H2[batch.homolog_NP], np.nan
    )
    found_NP2 = np.full(event_NP2.shape, -1, np.int64)
    where = np.isfinite(event_NP2[..., 0])
    # The nearest sample serves upside-down chromosomes too, where positions fall.
    miss = np.abs(position_NPL[where][:, None] - event_NP2[where][..., None])
    nearest = np.where(on_NPL[where][:, None], miss, np.inf).argmin(axis=-1)
    nearest.sort(axis=-1)
    nearest[:, 1] += 1
    found_NP2[where] = nearest
    return found_NP2


def _smooth_noise(
    generator: np.random.Generator,
    shape_NPC: tuple[int, int, int],
    knot: int,
    own_sd: float,
    shared_sd: float,
) -> Floats:
    """Noise (N, P, C, L) that changes over ``knot`` samples, in part shared by the chromatids."""
    reach = 2 * knot
    window = gaussian(2 * reach + 1, 0.8 * knot).astype(np.float32)
    window /= np.sqrt((window**2).sum() / knot)
    num_knots = SEQUENCE_LENGTH // knot + 6
    knots = _normal(generator, (*shape_NPC, num_knots), own_sd)
    knots += _normal(generator, (*shape_NPC[:2], 1, num_knots), shared_sd)
    noise: Floats = upfirdn(window, knots, up=knot)
    return noise[..., 2 * reach : 2 * reach + SEQUENCE_LENGTH]


def _normal(generator: np.random.Generator, shape: int | tuple[int, ...], sd: float) -> Floats:
    return np.float32(sd) * generator.standard_normal(shape, np.float32)


@cache
def _atlas() -> tuple[Floats, dict[str, int]]:
    """Density of all types side by side at the four levels, and the bin where each type begins."""
    first_bin, rows = {}, []
    for level in BAND_LEVELS:
        pieces, at = [], 0
        for name in CHROMOSOMES:
            bands = band_table(level)[name].bands
            middles = np.arange(_BIN_ISCN / 2, bands[-1].iscn_stop + _BIN_ISCN, _BIN_ISCN)
            stops = [band.iscn_stop for band in bands[:-1]]
            darkness = np.array([band.darkness for band in bands], np.float32)
            found = np.take(darkness, np.searchsorted(stops, middles, side="right"))
            pieces.append(np.pad(found, _MARGIN_BINS, mode="edge"))
            first_bin[name] = at + _MARGIN_BINS
            at += len(pieces[-1])
        rows.append(np.concatenate(pieces))
    return np.stack(rows), first_bin
