"""Builds and parses names of bands and abnormalities in the style of ISCN 2020.

:func:`parse` reads every name that this package builds, and single abnormalities of the
literature. It rejects bands that are not in the table of the level, and breakpoints out of order.
A range of bands is written ``q13~q21`` and also read as ``q13~21``, a doubtful band ``?q21``;
``p10`` and ``q10`` are the centromere as the end of an arm.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from homnet.errors import DataError
from homnet.karyotype.bands import FINEST_LEVEL, Band, ChromosomeBands, band_table
from homnet.karyotype.chromosomes import (
    ACROCENTRICS,
    BAND_LEVELS,
    CHROMOSOME_INDEX,
    CHROMOSOMES,
)

_NUM_PLACES: Final[Mapping[str, set[tuple[int, ...]]]] = {
    "add": {(1,)},
    "del": {(1,), (2,)},
    "der": {(1, 1)},
    "dic": {(1, 1)},
    "dup": {(2,)},
    "fra": {(1,)},
    "i": {(1,)},
    "idic": {(1,)},
    "ins": {(3,), (1, 2)},
    "inv": {(2,)},
    "r": {(2,)},
    "rob": {(1, 1)},
    "t": {(1, 1), (1, 1, 1)},
    "trp": {(2,)},
}
"""Number of breakpoints of each type, by prefix."""
PREFIXES: Final = tuple(_NUM_PLACES)
"""Supported abbreviations; ``der`` of one type may precede ``t`` or ``ins``."""
_WHOLE_ARMS: Final = frozenset({"der", "i", "rob"})
"""Prefixes that always break at the centromere."""
_WITHIN_ARMS: Final = frozenset({"dup", "fra", "idic", "ins", "inv", "r", "trp"})
"""Prefixes that never do."""
PREFIX_OF: Final[Mapping[str, str]] = {
    "deletion": "del",
    "duplication": "dup",
    "inversion": "inv",
    "isochromosome": "i",
    "ring": "r",
    "robertsonian": "rob",
    "insertion": "ins",
}
"""Abbreviation of each kind; a translocation or an addition is written with ``t``."""
_FORM: Final = re.compile(
    r"(?:der\((?P<der>[^()]+)\))?(?P<prefix>[a-z]+)\((?P<types>[^()]+)\)\((?P<bands>[^()]+)\)"
)
_PLACE: Final = re.compile(r"(\??)([pq])(\d+(?:\.\d+)?)(?:~\2(\d+(?:\.\d+)?))?")


@dataclass(frozen=True)
class Place:
    """One breakpoint of a name."""

    arm: str
    """``"p"`` or ``"q"``."""
    first: str
    """Band, for example ``"13.1"``; ``"10"`` is the centromere."""
    last: str | None = None
    """Other end of a range of bands."""
    doubtful: bool = False
    """Whether a question mark precedes it."""

    @property
    def centromeric(self) -> bool:
        """Whether it is the centromere, which is in no band."""
        return self.first == "10"

    def __str__(self) -> str:
        """The breakpoint as written in a name, for example ``"?q21~q23"``."""
        mark = "?" if self.doubtful else ""
        end = f"~{self.arm}{self.last}" if self.last else ""
        return f"{mark}{self.arm}{self.first}{end}"


@dataclass(frozen=True)
class Name:
    """A parsed name."""

    prefix: str
    """One of :data:`PREFIXES`."""
    types: tuple[str, ...]
    """Chromosome types, in the order of the name."""
    places: tuple[tuple[Place, ...], ...]
    """Breakpoints of each type."""
    derivative: str | None = None
    """Type of the derivative chromosome; None without ``der``."""


def band_name(chromosome: str, mb: float, level: int) -> str:
    """The name of the band at a position, for example ``"q21.3"``; see :func:`name_of`.

    Args:
        chromosome: chromosome type.
        mb: position in megabases from the tip of the short arm.
        level: of the band table.
    """
    bands = band_table(level)[chromosome]
    return name_of(bands.at(bands.to_iscn(mb * 1e6)))


def name_of(band: Band) -> str:
    """The name of a band.

    A merged band is named by the common part of its labels (``p15.3-15.1`` is ``"p15"``), or else
    as a range: ``"q31~q33"``.
    """
    ends = band.name.split("-")
    if len(ends) == 1:
        return band.label
    first, last = sorted(ends, key=float)
    if first.partition(".")[0] == last.partition(".")[0]:
        return band.arm + first.partition(".")[0]
    return f"{band.arm}{first}~{band.arm}{last}"


def short_form(prefix: str, types: Sequence[str], bands: Sequence[str]) -> str:
    """Builds a name, for example ``"t(9;22)(q34;q11)"``.

    Args:
        prefix: one of :data:`PREFIXES`.
        types: chromosome types.
        bands: one string per type with all its breakpoints; for a single type, also one string
            per breakpoint.
    """
    of_types = ["".join(bands)] if len(types) == 1 else list(bands)
    return f"{prefix}({';'.join(types)})({';'.join(of_types)})"


def rank(chromosome: str) -> tuple[bool, int]:
    """Sort key of types in a name: sex chromosomes first, then the others by number."""
    return chromosome not in {"X", "Y"}, CHROMOSOME_INDEX[chromosome]


def parse(text: str, level: int | None = None) -> Name:
    """Parses and checks a name.

    Args:
        text: for example ``"inv(3)(q21q26)"``.
        level: band level whose table must contain every band; any level by default.

    Raises:
        DataError: the syntax is wrong, a type or band does not exist, or the order is wrong.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise DataError(f"'{text}' is no name of the form del(5)(p14)")
    prefix, types = found["prefix"], tuple(found["types"].split(";"))
    groups = found["bands"].split(";")
    if prefix not in PREFIXES:
        raise DataError(f"'{text}': '{prefix}' is none of {', '.join(PREFIXES)}")
    unknown = [name for name in (*types, found["der"] or "1") if name not in CHROMOSOMES]
    if unknown:
        raise DataError(f"'{text}': there is no chromosome {unknown[0]}")
    if len(groups) != len(types):
        raise DataError(f"'{text}': {len(types)} chromosomes but {len(groups)} groups of bands")
    places = tuple(_places(text, group) for group in groups)
    name = Name(prefix, types, places, found["der"])
    levels = (level,) if level is not None else (*BAND_LEVELS, FINEST_LEVEL)
    for chromosome, own in zip(types, places, strict=True):
        for place in own:
            if not any(_exists(place, band_table(one)[chromosome]) for one in levels):
                raise DataError(
                    f"'{text}': chromosome {chromosome} has no band {place}"
                    + (f" at level {level}" if level is not None else "")
                )
    _check_form(text, name)
    return name


def _places(text: str, group: str) -> tuple[Place, ...]:
    # Some leave out the arm of a range's second band.
    group = re.sub(r"([pq])([\d.]+)~(?=\d)", r"\1\2~\1", group)
    places = tuple(
        Place(arm, first, last or None, bool(mark))
        for mark, arm, first, last in _PLACE.findall(group)
    )
    if "".join(map(str, places)) != group:
        raise DataError(f"'{text}': '{group}' does not read as bands such as p14 or q13q33")
    return places


def _exists(place: Place, bands: ChromosomeBands) -> bool:
    """Whether a table has the band: itself, a group of bands, or an end of a merged band."""
    labels = [
        end
        for band in bands.bands
        if band.arm == place.arm
        for end in (band.name.partition("-")[0], band.name.rpartition("-")[2])
    ]
    return place.centromeric or all(
        any(
            label == end or label.startswith(f"{end}{'' if '.' in end else '.'}")
            for label in labels
        )
        for end in (place.first, place.last)
        if end is not None
    )


def _beyond(band: str, other: str) -> bool:
    """Whether a band lies farther from the centromere than another and is no part of it."""
    # Region and band are one digit each, so digits sort like places; a group has fewer of them.
    num = min(len(band), len(other))
    return band[:num] > other[:num]


def _check_form(text: str, name: Name) -> None:
    """Checks the number and order of types and breakpoints."""
    prefix, types, places = name.prefix, name.types, name.places
    everywhere = [place for own in places for place in own]
    if tuple(map(len, places)) not in _NUM_PLACES[prefix]:
        expected = " or ".join(
            " and ".join(map(str, numbers)) for numbers in sorted(_NUM_PLACES[prefix])
        )
        raise DataError(f"'{text}': {prefix} has other numbers of breakpoints, {expected} by type")
    # The two homologs may exchange ends at different bands, as in t(3;3)(q21;q26.2).
    homologs = prefix == "t" and len(types) == 2 and places[0] != places[1]
    if len(set(types)) < len(types) and prefix not in {"der", "rob"} and not homologs:
        raise DataError(f"'{text}': a chromosome is named twice")
    if prefix in {"der", "dic", "rob", "t"} and types[0] != min(types, key=rank):
        raise DataError(f"'{text}': sex chromosomes come first, then the others by number")
    if prefix == "rob" and not set(types) <= set(ACROCENTRICS):
        raise DataError(f"'{text}': only acrocentric chromosomes fuse in a rob")
    if prefix in _WHOLE_ARMS and not all(place.centromeric for place in everywhere):
        raise DataError(f"'{text}': {prefix} breaks at the centromere, p10 or q10")
    if prefix in _WITHIN_ARMS and any(place.centromeric for place in everywhere):
        raise DataError(f"'{text}': {prefix} breaks in bands, not at the centromere")
    if prefix == "rob" and any(place.arm == "p" for place in everywhere):
        raise DataError(f"'{text}': a rob joins two long arms, q10 and q10")
    for place in everywhere:
        if place.last is not None and not _beyond(place.last, place.first):
            raise DataError(f"'{text}': the range {place} does not lead away from the centromere")
    if len(places) == 1 and len(places[0]) == 2:
        inner, outer = places[0]
        if (inner.arm, outer.arm) == ("q", "p"):
            raise DataError(f"'{text}': the short arm comes before the long arm")
        if prefix == "r" and inner.arm == outer.arm:
            raise DataError(f"'{text}': a ring breaks both arms")
        # The order within an arm is the direction of a duplicated segment.
        ordered = prefix in {"del", "inv"} and inner.arm == outer.arm
        if ordered and _beyond(inner.first, outer.last or outer.first):
            raise DataError(f"'{text}': the inner breakpoint comes before the outer one")
    if name.derivative is not None and (name.derivative not in types or prefix not in {"t", "ins"}):
        raise DataError(f"'{text}': der is of a chromosome of a t or ins")
