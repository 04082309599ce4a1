"""Cuts the chromosomes of karyograms out at the common scale, after corrections by a person."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from homnet.errors import DataError
from homnet.imaging.blobs import resized
from homnet.imaging.extraction import MAX_SIDE_PX
from homnet.imaging.karyogram import (
    SEPARATED,
    UM_PER_PX,
    FoundChromosome,
    Karyogram,
    numbered,
)

PX_PER_UM_RANGE: Final = (0.5, 500.0)
"""Pixels of a page per micrometre, between which a given number must be."""
LEFT_OUT: Final = "a person left it out"
"""Reason of a chromosome that a person did not want to be used."""
_MAX_DIFFERENCE: Final = 1.6
"""Largest factor between a given scale and that of the page, whose chromosomes may be condensed."""
_MAX_ZOOM: Final = 4.0
"""Largest enlargement; a page that needs more has too few pixels."""


def cut_out(
    karyogram: Karyogram, px_per_um: float | None = None
) -> tuple[Karyogram, dict[int, NDArray[np.uint8]]]:
    """Cuts out the chromosomes that are used.

    A chromosome that would be larger than an image of one may be is left out before it is
    enlarged: a page of 8,000 pixels could become sixteen times as large in memory.

    Args:
        karyogram: chromosomes of a page.
        px_per_um: pixels of the page per micrometre; None takes what the page says.

    Returns:
        The chromosomes, those that are too large with that reason, homologs numbered anew; and the
        images (H, W) of those that are used, by their number from 1 in reading order.

    Raises:
        DataError: the page has far too few pixels, or another scale than the given one.
    """
    if not karyogram.used:
        return karyogram, {}
    by_page = karyogram.scale.px_per_um
    px_per_um = px_per_um or by_page
    zoom = 1.0 / (UM_PER_PX * px_per_um)
    if zoom > _MAX_ZOOM:
        raise DataError(
            f"the chromosomes are too small: {1 / zoom:.2f} of the usual size; export the "
            "karyogram with more pixels"
        )
    if max(px_per_um / by_page, by_page / px_per_um) > _MAX_DIFFERENCE:
        raise DataError(
            f"{px_per_um:.3g} pixels per micrometre were given, and by its "
            f"{karyogram.scale.source} the page has {by_page:.3g}; give the number of this page, "
            "or none"
        )
    found = [_refused_if_large(one, zoom) for one in karyogram.chromosomes]
    karyogram = replace(karyogram, chromosomes=numbered(found))
    return karyogram, {
        number: resized(one.image_HW, zoom)
        for number, one in enumerate(karyogram.chromosomes, start=1)
        if not one.reason
    }


def _refused_if_large(one: FoundChromosome, zoom: float) -> FoundChromosome:
    side_px = round(max(one.image_HW.shape) * zoom)
    if one.reason or side_px <= MAX_SIDE_PX:
        return one
    return replace(
        one,
        reason=f"it is too large: {side_px} pixels at the common scale, at most {MAX_SIDE_PX}; "
        "check the scale of the page",
    )


def corrected(karyogram: Karyogram, types: Mapping[int, str]) -> Karyogram:
    """The chromosomes with types that a person gave them; homologs are numbered anew.

    Args:
        karyogram: what was read.
        types: type by number from 1 in reading order; empty leaves a chromosome out.

    Raises:
        DataError: there is no chromosome of a number, or one that gets a type is not one
            chromosome alone or cannot be measured.
    """
    found = list(karyogram.chromosomes)
    for number, name in types.items():
        if not 1 <= number <= len(found):
            raise DataError(f"number {number}: the picture has 1 to {len(found)}")
        one = found[number - 1]
        if not name:
            found[number - 1] = replace(one, chromosome="", reason=LEFT_OUT)
        elif not one.is_one:
            raise DataError(f"number {number} can have no type: {one.reason}")
        else:
            flags = tuple(flag for flag in one.flags if flag == SEPARATED)
            found[number - 1] = replace(
                one, chromosome=name, probability=1.0, flags=flags, reason=""
            )
    return replace(karyogram, chromosomes=numbered(found))
