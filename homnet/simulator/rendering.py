"""Renders the segments of a batch as sequences, as seen by a laboratory's microscope.

Band densities are looked up for all samples of all chromosomes at once, through condensation,
uneven stretching and the segments of the homolog. :mod:`homnet.simulator.staining` does the rest.
There is no loop over rows or positions.

Shape suffixes: H different homologs, S segments, G cells, N pairs, P homologs of a pair (2), C
chromatids (2: left, right), L positions (512), E landmarks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from homnet.karyotype.bands import LENGTH_PER_LEVEL
from homnet.karyotype.chromosomes import BAND_LEVELS, SEQUENCE_LENGTH
from homnet.simulator.atlas import BIN_ISCN, Atlas, BandAppearance, atlas_of
from homnet.simulator.genome import Homolog
from homnet.simulator.laboratory import Laboratory
from homnet.simulator.staining import Floats, Integers, normal, stain

_BEND_ISCN: Final = 10000.0
"""Length for which the laboratory's bending angle is given, ISCN units."""
_LARGEST_BEND: Final = 4.2
"""Maximum bending angle of a long chromosome, radians; a larger one would look like a ring and be
rejected."""
_BEND_LIMIT_GROWTH: Final = 0.25
"""Exponent of that limit as a function of length: short chromosomes bend less."""
_GUMBEL_MEDIAN: Final = -np.log(np.log(2.0))
_GUMBEL_SD: Final = np.pi / np.sqrt(6.0)
_MIN_SAMPLES: Final = 24
"""Minimum number of samples of a chromosome, however condensed."""


@dataclass(frozen=True)
class HomologTable:
    """The different homologs of a batch as padded arrays."""

    length_H: Floats
    """Visible length, ISCN units."""
    border_HS: Floats
    """Start of each segment, ISCN units; infinite beyond the last one."""
    offset_HS: Floats
    """Atlas bin of position 0, extrapolated from the segment."""
    slope_HS: Floats
    """Atlas bins per ISCN unit; negative in inverted segments."""


@dataclass(frozen=True)
class Batch:
    """Input of the renderer: N pairs from G cells of one person."""

    homologs: HomologTable
    """The different homologs."""
    homolog_NP: Integers
    """Row of the table in each slot, -1 for none."""
    cell_N: Integers
    """Cell of each pair, 0..G-1."""
    level_G: Integers
    """Index into ``BAND_LEVELS`` of each cell."""
    landmark_HE: Floats
    """Positions on each homolog to locate on its sequence, ISCN units; nan for none."""


@dataclass(frozen=True)
class Rendering:
    """Sequences and their properties."""

    pair_NPCL: NDArray[np.uint8]
    """Darkness, 1..255 on a chromosome, 0 beyond it and in empty slots."""
    straightness_N: Floats
    """Chord over arc length of the more bent homolog."""
    width_variation_N: Floats
    """Standard deviation of the width over its mean, of the more uneven homolog."""
    too_long_N: NDArray[np.bool_]
    """Whether a homolog exceeded the last position and was truncated."""
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
    """Returns the visible position on a homolog with the given bands, both in ISCN units."""
    atlas, at, seen = atlas_of(bands), 0.0, 0.0
    for segment in homolog.segments:
        inside = segment.part(0.0, min(max(position - at, 0.0), segment.length_iscn))
        seen += atlas.visible_length(inside)
        at += segment.length_iscn
    return seen


def straightness(
    length_iscn: Floats, laboratory: Laboratory, generator: np.random.Generator
) -> Floats:
    """Returns chord over arc length for given lengths; each chromosome bends to a circular arc."""
    # Most chromosomes are nearly straight and some are strongly bent, hence a Gumbel logarithm.
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
    darkness_NPCL = stain(
        density_NPL, total_NP, log_NP, batch.cell_N, len(batch.level_G), laboratory, generator
    )
    pair_NPCL = np.clip(np.rint(darkness_NPCL), 1, 255).astype(np.uint8)
    on_NPL = (np.arange(SEQUENCE_LENGTH) < total_NP[..., None]) & present_NP[..., None]
    pair_NPCL *= on_NPL[:, :, None]
    straight_NP = np.where(present_NP, straight_NP, 1.0)
    length_NP = np.maximum(total_NP / laboratory.samples_per_px, 1)
    # The centromere's constriction and the round ends are a larger part of a short chromosome.
    width_NP = (0.09 + 3.2 / length_NP) * np.exp(normal(generator, row_NP.shape, 0.22))
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
    """Returns the position of each sample on its homolog.

    Returns:
        Position (N, P, L) in ISCN units, the number of samples (N, P), and the log ratio (N, P) of
        the length to the usual one.
    """
    num_cells, num_pairs = len(batch.level_G), len(row_NP)
    level = np.log(BAND_LEVELS)
    typical = float(np.dot(laboratory.band_levels, level))
    cell_G = LENGTH_PER_LEVEL * (level[batch.level_G] - typical)
    cell_G = cell_G + normal(generator, num_cells, laboratory.condensation_sd)
    log_NP = (
        cell_G[batch.cell_N][:, None]
        + normal(generator, (num_pairs, 1), laboratory.type_length_sd)
        + laboratory.length_sd * generator.standard_t(6.0, row_NP.shape)
    )
    length_NP = batch.homologs.length_H[row_NP]
    body_NP = (laboratory.px_per_iscn * length_NP * np.exp(log_NP)).astype(np.float32)
    tip_NP2 = laboratory.halo_px + normal(generator, (*row_NP.shape, 2), laboratory.tip_px)
    total_NP = np.rint((body_NP + tip_NP2.sum(axis=-1)) * laboratory.samples_per_px)
    total_NP = np.maximum(total_NP, _MIN_SAMPLES).astype(np.int64)

    px_L = (np.arange(SEQUENCE_LENGTH, dtype=np.float32) + 0.5) / np.float32(
        laboratory.samples_per_px
    )
    depth_NPL = px_L - tip_NP2[..., :1]
    share_NPL: Floats = np.clip(depth_NPL / body_NP[..., None], 0, 1)
    # Sines are 0 at both ends, so the warp preserves the length.
    angle_NPL = np.float32(np.pi) * share_NPL
    sin_NPL, cos_NPL = np.sin(angle_NPL), np.cos(angle_NPL)
    one, two, three = (
        normal(generator, (*row_NP.shape, 1), laboratory.warp / order) for order in (1, 2, 3)
    )
    # sin 2a = 2 sin a cos a and sin 3a = sin a (4 cos^2 a - 1).
    share_NPL += sin_NPL * (one + cos_NPL * (2 * two + 4 * three * cos_NPL) - three)
    upside_NP = generator.random(row_NP.shape) < laboratory.flip_rate
    np.subtract(1, share_NPL, out=share_NPL, where=upside_NP[..., None])
    share_NPL *= length_NP[..., None]
    return share_NPL, total_NP, log_NP.astype(np.float32)


def _densities(batch: Batch, row_NP: Integers, position_NPL: Floats, atlas: Atlas) -> Floats:
    """Returns band densities 0..1 (N, P, L) at the positions, at the band level of each cell."""
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


def _landmark_positions(batch: Batch, position_NPL: Floats, on_NPL: NDArray[np.bool_]) -> Integers:
    """Returns the sample (N, P, E) nearest to each landmark, -1 for none."""
    landmark_NPE = np.where(
        (batch.homolog_NP >= 0)[..., None], batch.landmark_HE[batch.homolog_NP], np.nan
    )
    nearest_NPE = np.full(landmark_NPE.shape, -1, np.int64)
    n, p, e = np.nonzero(np.isfinite(landmark_NPE))
    # This also works for upside-down chromosomes, where positions decrease.
    miss = np.abs(position_NPL[n, p] - landmark_NPE[n, p, e][:, None])
    nearest_NPE[n, p, e] = np.where(on_NPL[n, p], miss, np.inf).argmin(axis=-1)
    return nearest_NPE
