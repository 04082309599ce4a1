"""Kinds of structural abnormality: as they arise, as one chromosome type shows them, and the map.

A cohort names abnormalities as they arose. A reader sees one chromosome type at a time. It cannot
tell whether a foreign segment was inserted, exchanged or added: that takes the other types.
"""

from collections.abc import Mapping
from typing import Final

NORMAL: Final = "normal"
"""Kind of an artificial event without any change, and of normal bags in tables of scores."""
SHAM: Final = "sham"
"""A structurally normal control: a segment is replaced by the same segment of the same chromosome
in another cell. It has the seams of an artificial abnormality and no other change."""

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
"""Artificial events by code (:mod:`homnet.bags.events`). The paper's *replaced* is two kinds here:
``inversion`` (own segment, reversed) and ``replacement`` (a segment of another chromosome, of equal
length). ``translocation`` is not in the paper: the end of an arm is exchanged for an end of another
chromosome, of any length, as in nature."""

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
"""Kinds that one chromosome type can show; the index is the code that a reader predicts."""

SHOWN_AS: Final[Mapping[str, str]] = {
    **{kind: kind for kind in SHOWN},
    "translocation": "insertion_translocation",
    "addition": "insertion_translocation",
    "insertion": "insertion_translocation",
    "replacement": "insertion_translocation",
    NORMAL: NO_ABNORMALITY,
    SHAM: NO_ABNORMALITY,
}
"""Shown kind by the kind in a cohort. A wrong pair has none: it is a laboratory error, not an
abnormality."""

IN_WORDS: Final[Mapping[str, str]] = {
    **{kind: kind for kind in SHOWN},
    "insertion_translocation": "insertion or translocation",
    "robertsonian": "Robertsonian translocation",
    NO_ABNORMALITY: "no abnormality",
}
"""Shown kinds in words, for reports."""
