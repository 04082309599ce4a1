"""Names of simulated abnormalities in the manner of ISCN 2020, at the band level of a cell."""

from typing import Final

from homnet.karyotype import nomenclature
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
    """The band of a breakpoint at a level, for example ``"q21.3"``; ``"q10"`` for a centromere."""
    if place.centromeric is not None:
        return place.centromeric
    return nomenclature.band_name(place.chromosome, place.mb, level)


def iscn(event: Event, level: int) -> str:
    """The short form of an event, for example ``"del(5)(q13q33)"``."""
    names = [band_name(place, level) for place in event.breakpoints]
    types = [place.chromosome for place in event.breakpoints]
    if event.kind in {"translocation", "addition"}:
        ordered = sorted(zip(types, names, strict=True), key=lambda one: nomenclature.rank(one[0]))
        exchange = nomenclature.short_form("t", *zip(*ordered, strict=True))
        return exchange if event.kind == "translocation" else f"der({types[0]}){exchange}"
    if event.inverted:
        names[-2:] = names[-2:][::-1]
    prefix = _PREFIX[event.kind]
    if len(event.chromosomes) == 1:
        return nomenclature.short_form(prefix, types[:1], names)
    if event.kind == "robertsonian":
        return nomenclature.short_form(prefix, types, names)
    inserted = nomenclature.short_form(prefix, types[:2], [names[0], names[1] + names[2]])
    return inserted if event.balanced else f"der({types[0]}){inserted}"
