"""Human chromosomes: types, Denver groups, acrocentrics and band levels."""

from typing import Final

CHROMOSOMES: Final[tuple[str, ...]] = (*(str(n) for n in range(1, 23)), "X", "Y")
"""The 24 chromosome types, in the order used for every index and one-hot vector."""

CHROMOSOME_INDEX: Final[dict[str, int]] = {name: i for i, name in enumerate(CHROMOSOMES)}

BAND_LEVELS: Final[tuple[int, ...]] = (300, 400, 550, 700)
"""Bands per haploid set, as stated by the laboratory for each cell (paper, section 2.1)."""

SEQUENCE_LENGTH: Final[int] = 512
"""Samples per sequence, L (the paper's d)."""

DENVER_GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "A": ("1", "2", "3"),
    "B": ("4", "5"),
    "C": ("6", "7", "8", "9", "10", "11", "12", "X"),
    "D": ("13", "14", "15"),
    "E": ("16", "17", "18"),
    "F": ("19", "20"),
    "G": ("21", "22", "Y"),
}
"""The seven length groups of the Denver and London conferences (1960, 1963)."""

DENVER_GROUP_OF: Final[dict[str, str]] = {
    chromosome: group for group, members in DENVER_GROUPS.items() for chromosome in members
}

ACROCENTRICS: Final[tuple[str, ...]] = ("13", "14", "15", "21", "22")
"""The types that take part in Robertsonian translocations."""

KARYOGRAM_ROWS: Final[tuple[tuple[str, ...], ...]] = (
    ("1", "2", "3", "4", "5"),
    ("6", "7", "8", "9", "10", "11", "12"),
    ("13", "14", "15", "16", "17", "18"),
    ("19", "20", "21", "22", "X", "Y"),
)
"""Rows of a karyogram: Denver groups A to G, then the sex chromosomes."""

CHROMOSOME_WIDTH_PX: Final[float] = 13.0
"""Width of a drawn chromosome in image pixels; 11 to 21 on slides."""
