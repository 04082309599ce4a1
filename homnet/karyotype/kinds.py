"""Every kind of structural abnormality: as it arises, as one chromosome shows it, and the map.

A cohort names abnormalities as they arose. A reader sees one chromosome type at a time and names
what that type shows, which is less: whether a foreign segment was inserted, exchanged or added
takes the patient's other types to say.
"""

from collections.abc import Mapping
from typing import Final

NORMAL: Final = "normal"
"""Kind of an artificial event that changes nothing, and of normal bags in tables of scores."""
SHAM: Final = "sham"
"""A control that is structurally normal: a segment is replaced by the same segment of the same
chromosome in another cell, so that it has the seams of an artificial abnormality and nothing
else."""

ARTIFICIAL: Final[tuple[str, ...]] = (
    NORMAL,
    "deletion",
    "addition",
    "duplication",
    "inversion",
    "replacement",
    "robertsonian",
    "wrong_pair",
    "translocation",
    SHAM,
)
"""Artificial events by code (:mod:`homnet.bags.events`). The paper's *replaced* is two kinds:
``inversion`` (own segment, turned) and ``replacement`` (a segment of another chromosome, of the
same length). ``translocation`` is not the paper's: the end of an arm is exchanged for an end of
another chromosome, whatever their lengths, as in nature."""

SIMULATED: Final[tuple[str, ...]] = (
    "translocation",
    "inversion",
    "deletion",
    "robertsonian",
    "duplication",
    "addition",
    "insertion",
    "isochromosome",
    "ring",
)
"""Abnormalities of simulated patients (:mod:`homnet.simulator.events`). An addition is an
unbalanced derivative."""

NO_ABNORMALITY: Final = "none"
SHOWN: Final[tuple[str, ...]] = (
    "deletion",
    "duplication",
    "inversion",
    "insertion_translocation",
    "robertsonian",
    "isochromosome",
    "ring",
    NO_ABNORMALITY,
)
"""Kinds that one chromosome type can show, by the code that a reader predicts."""

SHOWN_AS: Final[Mapping[str, str]] = {
    **{kind: kind for kind in SHOWN},
    "translocation": "insertion_translocation",
    "addition": "insertion_translocation",
    "insertion": "insertion_translocation",
    "replacement": "insertion_translocation",
    NORMAL: NO_ABNORMALITY,
    SHAM: NO_ABNORMALITY,
}
"""What a type shows, by the name of an event in a cohort. A wrong pair is missing: it is a mix-up
in the laboratory, not an abnormality."""

IN_WORDS: Final[Mapping[str, str]] = {
    **{kind: kind for kind in SHOWN},
    "insertion_translocation": "insertion or translocation",
    "robertsonian": "Robertsonian translocation",
    NO_ABNORMALITY: "no abnormality",
}
"""Shown kinds as people read them."""
