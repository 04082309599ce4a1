"""Chromosomes cut out of the images that were sent, as reports show them.

An image is used if measuring it gives the pair's sequence: then it is known where on the image each
sample lies, and whether the chromosome was turned.

Shape suffixes: H rows, W columns, P homologs (2), C chromatids, L positions, A samples along the
axis, X their borders (A + 1). Points of the axis are (row, column) in pixels.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from homnet.imaging.extraction import ExtractionConfig, extract, isolate
from homnet.imaging.orientation import turn
from homnet.report.html import data_uri
from homnet.report.upright import Floats

_QUALITY: Final = 90
"""Of WebP: bands look as in the image at three quarters of the size of PNG."""
_FEWEST_SAMPLES: Final = 2.0
"""Samples per pixel that a picture has at least: finer ones are made smaller."""


@dataclass(frozen=True, eq=False)
class Photograph:
    """A chromosome that was cut out of its image; its first sample is at the upper end."""

    name: str
    """Its id on the page."""
    picture: bytes
    """WebP."""
    height_px: float
    width_px: float
    """Size in pixels of the image that was sent; the picture may have fewer."""
    border_X2: Floats
    """Where the samples of the sequence begin and end, as (x, y) from the upper left corner."""
    half_width_px: float
    """Distance of the chromosome's edge from its axis."""

    @classmethod
    def of(
        cls,
        grey_HW: NDArray[np.uint8],
        border_X2: Floats,
        half_width_px: float,
        config: ExtractionConfig,
        name: str,
    ) -> Self:
        """Makes the picture of a chromosome that was cut out, and turned if it had to be."""
        height, width = grey_HW.shape
        shrink = min(1.0, config.samples_per_px / _FEWEST_SAMPLES)
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        picture = io.BytesIO()
        small = Image.fromarray(grey_HW).resize(size, Image.Resampling.BOX)
        small.save(picture, "WEBP", quality=_QUALITY)
        return cls(name, picture.getvalue(), height, width, border_X2, half_width_px)


def photographs_of(
    pair_PCL: NDArray[np.uint8],
    images: Sequence[NDArray[np.uint8]],
    *,
    config: ExtractionConfig,
    name: str,
    measured: bool = True,
) -> tuple[Photograph | None, ...]:
    """Cuts the homologs of a pair out of their images.

    Args:
        pair_PCL: darkness (2, 2, 512).
        images: grey images (H, W) of its homologs.
        config: how the images were measured.
        name: of the pair on the page.
        measured: whether to measure the images again. Otherwise they are taken to show the homologs
            in order, none turned, with straight axes: in a third of the time.

    Returns:
        A photograph for each homolog; None if none of the images shows it.
    """
    slots = np.flatnonzero(pair_PCL.any(axis=(1, 2))).tolist()
    found: list[Photograph | None] = [None] * len(pair_PCL)
    if not measured and len(images) == len(slots):
        for slot, image_HW in zip(slots, images, strict=True):
            grey_HW, _ = _cut(image_HW, config)
            height, width = grey_HW.shape
            from_top_X = np.linspace(0, height, np.count_nonzero(pair_PCL[slot].any(axis=0)) + 1)
            border_X2 = np.stack([np.full(len(from_top_X), width / 2), from_top_X], axis=1)
            found[slot] = Photograph.of(grey_HW, border_X2, width / 2, config, f"{name}-{slot}")
        return tuple(found)
    tried = [(image_HW, extract(image_HW, config)) for image_HW in images]
    for slot in slots:
        for image_HW, one in tried:
            if one.sequence_CL is None:
                continue
            turned = bool((turn(one.sequence_CL[None])[0] == pair_PCL[slot]).all())
            if turned or (one.sequence_CL == pair_PCL[slot]).all():
                grey_HW, corner = _cut(image_HW, config)
                # Pixel centres have integer coordinates.
                border_X2 = _borders(one.axis_A2 - corner + 0.5)
                if turned:
                    grey_HW = grey_HW[::-1, ::-1]
                    border_X2 = grey_HW.shape[::-1] - border_X2[::-1]
                found[slot] = Photograph.of(
                    grey_HW, border_X2, one.width_px / 2, config, f"{name}-{slot}"
                )
    return tuple(found)


def album(photographs: Iterable[Photograph]) -> str:
    """Returns the pictures as elements that others use by their ids, in an SVG of no size."""
    parts = [
        f'<image id="{one.name}" width="{one.width_px:g}" height="{one.height_px:g}" '
        f'preserveAspectRatio="none" href="{data_uri(one.picture, "webp")}"/>'
        for one in photographs
    ]
    return (
        f'<svg class="album" width="0" height="0" aria-hidden="true">'
        f"<defs>{''.join(parts)}</defs></svg>"
        if parts
        else ""
    )


def _cut(
    image_HW: NDArray[np.uint8], config: ExtractionConfig
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Returns the chromosome alone on white, and the pixel (row, column) of its first corner."""
    darkness_HW = isolate(image_HW, config)
    (top, bottom), (left, right) = (
        np.flatnonzero(darkness_HW.any(axis=axis))[[0, -1]] for axis in (1, 0)
    )
    grey_HW = 255 - darkness_HW[top : bottom + 1, left : right + 1]
    return grey_HW, np.array([top, left])


def _borders(axis_A2: Floats) -> Floats:
    """Returns where samples with these centres (row, column) begin and end, as (x, y)."""
    inner_X2 = (axis_A2[1:] + axis_A2[:-1]) / 2
    first, last = 1.5 * axis_A2[[0, -1]] - 0.5 * axis_A2[[1, -2]]
    return np.vstack([first, inner_X2, last])[:, ::-1]
