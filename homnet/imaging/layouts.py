"""Layouts of karyograms: which chromosome types stand in which row, from left to right.

Systems agree on the order of the Denver groups. They differ in where the sex chromosomes stand and
in where rows end. A layout of a laboratory's own is given as a small table.
"""

import csv
import io
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from homnet.errors import DataError
from homnet.karyotype.chromosomes import CHROMOSOMES, KARYOGRAM_ROWS
from homnet.locations import Location

_A_B, _C, _D_E, _F_G_SEX = KARYOGRAM_ROWS
_F_G: Final = _F_G_SEX[:4]
_MAX_BYTES: Final = 4096


@dataclass(frozen=True)
class Layout:
    """Rows of a karyogram, from top to bottom."""

    name: str
    """What messages call it."""
    rows: tuple[tuple[str, ...], ...]
    """Types of each row, from left to right; each type at most once."""

    @property
    def order(self) -> tuple[str, ...]:
        """All types in reading order."""
        return tuple(name for row in self.rows for name in row)

    @property
    def row_ends(self) -> frozenset[int]:
        """Positions in the reading order at which a row begins, the first row's excluded."""
        return frozenset(accumulate(len(row) for row in self.rows[:-1]))


LAYOUTS: Final = (
    Layout("sex chromosomes last", KARYOGRAM_ROWS),
    Layout("X after group C, Y last", (_A_B, (*_C, "X"), _D_E, (*_F_G, "Y"))),
    Layout("X and Y after group C", (_A_B, (*_C, "X", "Y"), _D_E, _F_G)),
    Layout("sex chromosomes in a row of their own", (_A_B, _C, _D_E, _F_G, ("X", "Y"))),
    Layout("groups F and G in rows of their own", (_A_B, _C, _D_E, _F_G[:2], _F_G_SEX[2:])),
    Layout("two rows", (CHROMOSOMES[:12], CHROMOSOMES[12:])),
    Layout("three rows", (CHROMOSOMES[:8], CHROMOSOMES[8:16], CHROMOSOMES[16:])),
)
"""What the common systems print."""


def read_layout(path: Location, content: bytes | None = None) -> Layout:
    """Reads a layout: a CSV file without a header, one line per row of the karyogram.

    A line holds the types of its row from left to right, for example ``1,2,3,,4,5``; empty fields
    and empty lines are skipped.

    Args:
        path: the file.
        content: its content; ``path`` is then only its name in messages.

    Raises:
        DataError: the file cannot be read, or names no type, an unknown one, or one twice.
    """
    try:
        content = path.read_bytes() if content is None else content
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; give a layout CSV") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({type(error).__name__})") from None
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path}: more than {_MAX_BYTES} bytes; write only the types of each row")
    rows: list[tuple[str, ...]] = []
    seen: set[str] = set()
    lines = io.StringIO(text.replace(";", ","), newline="")
    for number, line in enumerate(csv.reader(lines), start=1):
        names = [name.strip().upper() for name in line if name.strip()]
        for name in names:
            if name not in CHROMOSOMES:
                raise DataError(f"{path}: line {number}: '{name[:20]}' is not one of 1..22, X or Y")
            if name in seen:
                raise DataError(f"{path}: line {number}: type {name} is in the table twice")
            seen.add(name)
        rows += [tuple(names)] if names else []
    if not rows:
        raise DataError(f"{path}: there is no type in it; write the types of each row on one line")
    return Layout(str(path), tuple(rows))
