"""Structural variants of chromosomes that healthy people carry, and how findings resemble them."""

from collections.abc import Mapping
from typing import Final

from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.chromosomes import ACROCENTRICS

HETEROCHROMATIN: Final[Mapping[str, tuple[str, str]]] = {
    "1": ("q12", "q12"),
    "9": ("q12", "q12"),
    "16": ("q11.2", "q11.2"),
    "Y": ("q12", "q12"),
    **dict.fromkeys(ACROCENTRICS, ("p13", "p11.2")),
}
"""First and last band of regions whose length differs between healthy people: 1qh, 9qh, 16qh, Yqh
(Yamada 1978), and stalks and satellites of the acrocentrics."""
INVERTED: Final[Mapping[str, tuple[str, str]]] = {
    "2": ("p11.2", "q13"),
    "9": ("p12", "q13"),
    "10": ("p11.2", "q21"),
    "Y": ("p11.2", "q11.2"),
}
"""Bands of the breakpoints of inversions that are normal variants."""
_CHANGES_OF_LENGTH: Final = frozenset({"deletion", "duplication", "insertion_translocation"})


def known_variant(
    chromosome: str,
    kind: str,
    start_mb: tuple[float, float] | None,
    stop_mb: tuple[float, float] | None,
) -> str | None:
    """Name of the normal variant that a finding resembles, or None.

    Args:
        chromosome: type.
        kind: one of :data:`homnet.karyotype.kinds.SHOWN`.
        start_mb: interval of the start of the changed segment, Mb; None for the tip of the short
            arm.
        stop_mb: interval of its end; None for the tip of the long arm.
    """
    if kind == "inversion" and chromosome in INVERTED and start_mb and stop_mb:
        first, last = INVERTED[chromosome]
        near = (_overlap(start_mb, _band_mb(chromosome, first)),
                _overlap(stop_mb, _band_mb(chromosome, last)))  # fmt: skip
        return f"inv({chromosome})({first}{last})" if all(near) else None
    if kind in _CHANGES_OF_LENGTH and chromosome in HETEROCHROMATIN:
        first, last = HETEROCHROMATIN[chromosome]
        low, high = _band_mb(chromosome, first)[0], _band_mb(chromosome, last)[1]
        length = band_table(FINEST_LEVEL)[chromosome].length_bp / 1e6
        start, stop = sum(start_mb or (0.0, 0.0)) / 2, sum(stop_mb or (length, length)) / 2
        if low <= start <= stop <= high:
            short_arm = f"satellite and stalk of {chromosome}p"
            return short_arm if chromosome in ACROCENTRICS else f"{chromosome}qh"
    return None


def _band_mb(chromosome: str, label: str) -> tuple[float, float]:
    """Start and end of a band, or of all its sub-bands, Mb."""
    own = [
        band
        for band in band_table(FINEST_LEVEL)[chromosome].bands
        if band.label == label or band.label.startswith(label + ("" if "." in label else "."))
    ]
    return own[0].bp_start / 1e6, own[-1].bp_stop / 1e6


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]
