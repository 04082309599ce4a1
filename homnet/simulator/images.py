"""Images of simulated chromosomes, drawn from the sequences of a cohort's rows.

Image and sequence come from one model: the image shows the darkness, length and bend given in the
row, so extraction must recover the row. The rows already contain the ends and blur of a
laboratory's images, so drawing adds almost none. Width and the gap between the chromatids are not
in the rows and are drawn here, per cell and per chromosome. The waist is at the centromere of the
type's reference chromosome, even on the few chromosomes that are rearranged or upside down.
Extraction is accurate to a pixel, so a chromosome that nearly fills the 512 positions may be
extracted as too long.

Shape suffixes: P homologs (2), C chromatids (2: left, right), L positions.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.optimize import brentq

from homnet.cohorts.pairs import pairs_of
from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.seeding import generator
from homnet.simulator.drawing import centre_line, draw_chromosome

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]

_HALF_WIDTH_PX: Final = 8.4
_CELL_WIDTH_SD: Final = 0.17
_WIDTH_SD: Final = 0.09
"""Median half width, and standard deviations of its log between cells and within a cell. Widths
extracted from real images are 11 to 21 px with a median of 15.6."""
_MAX_TURN: Final = 4.5
"""Maximum angle between the directions of the two ends, radians."""
_TILT_SD: Final = 0.05
"""Standard deviation of the rotation of a chromosome in its image, radians."""
_WAIST_PX: Final = 2.2
"""Standard deviation of the waist's extent along the chromosome."""
_TIP_PX: Final = 1.1
"""Length of the rounded, pale tip that extraction misses and a row therefore lacks."""
_MIDDLE: Final = 1.245
"""Ratio of a chromatid's central darkness to its mean over the width, edges and gap included."""
_ROUNDNESS: Final = 0.35
"""Relative loss of darkness at the edges of a chromatid; forms a groove between the two."""
_BLUR_PX: Final = 0.7
"""Small blur for soft edges only, because the rows are already blurred."""
_NOISE_SD: Final = 1.0
_MARGIN_PX: Final = 3


def image_rows(table: pa.Table) -> pd.DataFrame:
    """Returns the images of a table of pairs, one per chromosome.

    Args:
        table: rows as of :data:`homnet.cohorts.pairs.SCHEMA`.

    Returns:
        A manifest as :func:`homnet.imaging.manifest.read_manifest` reads it, and ``pair``, the
        table row of each image. An empty slot has no image.
    """
    pair_NPCL = pairs_of(table)
    row, homolog = np.nonzero(pair_NPCL[:, :, 0, 0] > 0)
    names = ["hospital", "patient_id", "cell_id", "chromosome", "band_level"]
    frame = table.select([*names, "kind", "homolog"]).to_pandas().iloc[row].reset_index(drop=True)
    where = frame[["hospital", "patient_id", "cell_id", "chromosome"]].agg("/".join, axis=1)
    abnormal = (frame["homolog"] == homolog).to_numpy()
    images: pd.DataFrame = frame[names].assign(
        path=where + "_" + pd.Series(homolog.astype(str)) + ".png",
        homolog=homolog,
        abnormal=abnormal.astype(int),
        kind=frame["kind"].where(abnormal, "").fillna(""),
        pair=row,
    )
    return images


@dataclass(frozen=True)
class CellLook:
    """Appearance, other than darkness, shared by the chromosomes of a cell."""

    half_width_px: float
    """Half width of a typical chromosome."""
    gap_share: float
    """Share of the chromosomes with visibly separate chromatids."""


def cell_look(seed: int, hospital: str, cell_id: str) -> CellLook:
    """Draws the look of a cell; depends only on the seed and the names."""
    draw = generator(seed, "cell look", hospital, cell_id)
    half_width_px = _HALF_WIDTH_PX * np.exp(draw.normal(0.0, _CELL_WIDTH_SD))
    return CellLook(float(half_width_px), float(draw.beta(1.2, 2.0)))


def draw_pair(
    pair_PCL: NDArray[np.uint8],
    chromosome: str,
    straightness: float,
    look: CellLook,
    *,
    samples_per_px: float,
    draw: np.random.Generator,
) -> list[Image | None]:
    """Draws both homologs of a pair, dark on white.

    Args:
        pair_PCL: darkness (2, 2, 512), 0 beyond the end.
        chromosome: type, which determines the position of the waist.
        straightness: chord over arc of the more bent homolog.
        look: look of the cell.
        samples_per_px: positions per pixel.
        draw: source of width, gap, shape of the bend, and noise.

    Returns:
        An image (H, W) per homolog, None for an empty slot.
    """
    present_P = pair_PCL[:, 0, 0] > 0
    # One homolog has the bend of the row; the other is less bent.
    share_P = np.where(np.arange(2) == draw.integers(2), 1.0, draw.random())
    share_P = np.where(present_P.all(), share_P, 1.0)
    return [
        _draw(
            sequence_CL[:, sequence_CL[0] > 0],
            chromosome,
            1.0 - (1.0 - straightness) * share,
            look,
            samples_per_px,
            draw,
        )
        if present
        else None
        for sequence_CL, present, share in zip(pair_PCL, present_P, share_P, strict=True)
    ]


def _draw(
    profile_CL: NDArray[np.uint8],
    chromosome: str,
    straightness: float,
    look: CellLook,
    samples_per_px: float,
    draw: np.random.Generator,
) -> Image:
    beyond = round(_TIP_PX * samples_per_px)
    profile_CL = np.pad(profile_CL, ((0, 0), (beyond, beyond)), mode="edge")
    num_positions = profile_CL.shape[1]
    place_L = (np.arange(num_positions) + 0.5) / num_positions
    length_px = num_positions / samples_per_px
    half_width_px = min(
        look.half_width_px * np.exp(draw.normal(0.0, _WIDTH_SD)),
        # Even the shortest chromosome is longer than wide.
        0.45 * length_px,
    )
    reference = band_table(FINEST_LEVEL)[chromosome]
    centromere = reference.centromere_iscn / reference.length_iscn
    from_waist_L = np.abs(place_L - centromere) * length_px
    waist_L = np.exp(-0.5 * (from_waist_L / _WAIST_PX) ** 2)
    # Edges of a real chromosome are uneven.
    knots = draw.normal(0.0, 0.05, max(3, int(length_px / 6)))
    uneven_L = np.interp(place_L, np.linspace(0, 1, len(knots)), knots)
    half_width_L = half_width_px * (1.0 + uneven_L) * (1.0 - draw.uniform(0.2, 0.4) * waist_L)
    return draw_chromosome(
        np.minimum(_MIDDLE * profile_CL, 255.0),
        centre_line(_heading(place_L, straightness, draw), 1.0 / samples_per_px),
        half_width_L,
        samples_per_px=samples_per_px,
        generator=draw,
        gap_px=_gap(place_L, centromere, half_width_px, look, draw),
        roundness=_ROUNDNESS,
        blur_sigma_px=_BLUR_PX,
        noise_sd=_NOISE_SD,
        margin_px=_MARGIN_PX,
    ).image_HW


def _heading(place_L: Floats, straightness: float, draw: np.random.Generator) -> Floats:
    """Returns the heading (L) of a chromosome with this chord over arc and a single bend."""
    middle, reach = draw.uniform(0.4, 0.6), draw.uniform(0.5, 1.2)
    turned_L = np.clip((place_L - middle) / reach + 0.5, 0.0, 1.0)
    turned_L = turned_L * turned_L * (3.0 - 2.0 * turned_L)

    def chord(turn: float) -> complex:
        # The mean of unit vectors along an arc is its chord divided by its length.
        return complex(np.exp(1j * turn * turned_L).mean())

    def missing(turn: float) -> float:
        return abs(chord(turn)) - straightness

    turn = _MAX_TURN if missing(_MAX_TURN) > 0 else float(brentq(missing, 0.0, _MAX_TURN))
    turn *= draw.choice([-1.0, 1.0])
    heading_L: Floats = turn * turned_L - np.angle(chord(turn)) + draw.normal(0.0, _TILT_SD)
    return heading_L


def _gap(
    place_L: Floats,
    centromere: float,
    half_width_px: float,
    look: CellLook,
    draw: np.random.Generator,
) -> Floats:
    """Returns the width (L) of the light gap in pixels, wider towards the tips; 0 if closed."""
    gap_L = np.zeros_like(place_L)
    for length, from_centromere_L in (
        (centromere, centromere - place_L),
        (1.0 - centromere, place_L - centromere),
    ):
        widest_px = draw.uniform(0.05, 0.3) * half_width_px
        if draw.random() < look.gap_share:
            gap_L += widest_px * np.clip(2.0 * from_centromere_L / length - 0.5, 0.0, 1.0)
    return gap_L
