"""Names of abnormalities and of bands in the manner of ISCN 2020, at the band level of a cell."""

from typing import Final

from homnet.bands import band_table
from homnet.chromosomes import CHROMOSOME_INDEX
from homnet.simulator.breakpoints import Breakpoint
from homnet.simulator.events import Event

_PREFIX: Final = {
    "deletion": "del",
    "duplication": "dup",
    "inversion": "inv",
    "isochromosome": "i",
    "ring": "r",
    "robertsonian": "rob",
    "insertion": "ins",
}


def band_name(place: Breakpoint, level: int) -> str:
    """The band of a breakpoint at a level, for example ``"q21.3"``.

    Bands that have melted into one are named by what they share (``p15.3-15.1`` is ``"p15"``), or
    else as a range: ``"q31~33"``.
    """
    if place.centromeric is not None:
        return place.centromeric
    bands = band_table(level)[place.chromosome]
    band = bands.at(bands.to_iscn(place.mb * 1e6))
    ends = band.name.split("-")
    if len(ends) == 1:
        return band.label
    first, last = sorted(ends, key=float)
    if first.partition(".")[0] == last.partition(".")[0]:
        return band.arm + first.partition(".")[0]
    return f"{band.arm}{first}~{last}"


def iscn(event: Event, level: int) -> str:
    """The short form of an event, for example ``"del(5)(q13q33)"``."""
    names = [band_name(place, level) for place in event.breakpoints]
    types = [place.chromosome for place in event.breakpoints]
    if event.kind in {"translocation", "addition"}:
        ordered = sorted(zip(types, names, strict=True), key=lambda one: _rank(one[0]))
        (one, one_band), (other, other_band) = ordered
        exchange = f"t({one};{other})({one_band};{other_band})"
        return exchange if event.kind == "translocation" else f"der({types[0]}){exchange}"
    if event.inverted:
        names[-2:] = names[-2:][::-1]
    prefix = _PREFIX[event.kind]
    if len(event.chromosomes) == 1:
        return f"{prefix}({types[0]})({''.join(names)})"
    if event.kind == "robertsonian":
        return f"{prefix}({';'.join(types)})({';'.join(names)})"
    inserted = f"ins({types[0]};{types[1]})({names[0]};{names[1]}{names[2]})"
    return inserted if event.balanced else f"der({types[0]}){inserted}"


def _rank(chromosome: str) -> tuple[bool, int]:
    """Sex chromosomes come first, then the others by number."""
    return chromosome not in {"X", "Y"}, CHROMOSOME_INDEX[chromosome]
