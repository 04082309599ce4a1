"""Named recurrent structural abnormalities: their data, and sampling.

Only those visible in a microscope are included; 22q11.2 and t(12;21) are not. Breakpoints are given
by band and are drawn anywhere in it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np

from homnet.simulator.breakpoints import Breakpoint, Site
from homnet.simulator.events import Event, in_order

CONTEXTS: Final = ("constitutional", "haematological")
"""Patient groups: constitutional karyotypes, or bone marrow examined for leukaemia."""


@dataclass(frozen=True)
class Recurrent:
    """A recurrent abnormality."""

    kind: str
    """One of :data:`homnet.karyotype.kinds.SIMULATED`."""
    chromosomes: tuple[str, ...]
    """The types with a breakpoint."""
    bands: tuple[str, ...]
    """Bands of the breakpoints; a deletion with one band is terminal."""
    weight: float
    """Frequency relative to the others of its context."""

    def draw(self, generator: np.random.Generator) -> Event:
        """Returns the event, with breakpoints drawn within the bands."""
        types = self.chromosomes * (len(self.bands) // len(self.chromosomes))
        places = [
            Breakpoint.of_arm(name, band[0])
            if band[1:] == "10"
            else Site(generator, name).within(band)
            for name, band in zip(types, self.bands, strict=True)
        ]
        if len(places) == 2 and len(self.chromosomes) == 1:
            places = list(in_order(places[0], places[1]))
        return Event(self.kind, tuple(places))


RECURRENT: Final = {
    "constitutional": (
        Recurrent("deletion", ("5",), ("p15",), 3.0),
        Recurrent("deletion", ("4",), ("p16",), 3.0),
        Recurrent("deletion", ("1",), ("p36",), 1.0),
        Recurrent("deletion", ("18",), ("p11.2",), 2.0),
        Recurrent("deletion", ("18",), ("q21",), 2.0),
        Recurrent("deletion", ("13",), ("q14", "q22"), 1.0),
        Recurrent("translocation", ("11", "22"), ("q23", "q11.2"), 5.0),
        Recurrent("isochromosome", ("X",), ("q10",), 4.0),
        Recurrent("isochromosome", ("18",), ("p10",), 1.5),
        Recurrent("isochromosome", ("12",), ("p10",), 1.0),
        Recurrent("ring", ("20",), ("p13", "q13.3"), 0.5),
        Recurrent("ring", ("13",), ("p11.2", "q34"), 0.5),
        Recurrent("ring", ("18",), ("p11.3", "q23"), 0.5),
        Recurrent("ring", ("X",), ("p22.3", "q28"), 0.5),
    ),
    "haematological": (
        Recurrent("deletion", ("5",), ("q13", "q33"), 5.0),
        Recurrent("deletion", ("7",), ("q22", "q34"), 2.0),
        Recurrent("deletion", ("20",), ("q11.2", "q13.1"), 2.5),
        Recurrent("deletion", ("11",), ("q23",), 1.0),
        Recurrent("translocation", ("9", "22"), ("q34.1", "q11.2"), 5.0),
        Recurrent("translocation", ("8", "21"), ("q22", "q22"), 2.0),
        Recurrent("translocation", ("15", "17"), ("q24", "q21"), 2.0),
        Recurrent("inversion", ("3",), ("q21", "q26.2"), 1.0),
        Recurrent("inversion", ("16",), ("p13.1", "q22"), 1.5),
        Recurrent("isochromosome", ("17",), ("q10",), 1.0),
    ),
}
"""Recurrent abnormalities by context. t(11;22) is the commonest constitutional translocation;
Robertsonian translocations are drawn elsewhere."""


def draw_recurrent(
    generator: np.random.Generator,
    context: str,
    kinds: Collection[str],
    paired: Collection[str],
) -> Event | None:
    """Draws one of the recurrent abnormalities of a context.

    Args:
        generator: source of randomness.
        context: one of :data:`CONTEXTS`.
        kinds: allowed kinds.
        paired: types of which the person has two.

    Returns:
        The event, or None if no abnormality of the context is possible.
    """
    suitable = [
        one
        for one in RECURRENT[context]
        if one.kind in kinds and all(name in paired for name in one.chromosomes)
    ]
    if not suitable:
        return None
    weights = np.array([one.weight for one in suitable])
    return suitable[int(generator.choice(len(suitable), p=weights / weights.sum()))].draw(generator)
