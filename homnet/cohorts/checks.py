"""Checks of pairs, both in cohorts and in requests to the endpoint."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from homnet.cohorts.pairs import MEASURED, PAIR_BYTES, PAIR_SHAPE, SCHEMA, pairs_of
from homnet.errors import CohortError, first_line
from homnet.karyotype.chromosomes import BAND_LEVELS, CHROMOSOMES, SEQUENCE_LENGTH
from homnet.locations import Location

HOSPITAL_NAME: Final = r"[\w-][\w.-]*"
"""Pattern of names of hospitals, which become names of folders."""
_ADVICE: Final = "use letters, digits, '.', '_' and '-' only, and no '.' at the beginning"


def require_hospital_name(name: str, where: object) -> None:
    """Refuses a hospital whose name cannot be that of a folder.

    Raises:
        CohortError: the name does not match :data:`HOSPITAL_NAME`.
    """
    if not re.fullmatch(HOSPITAL_NAME, name):
        raise CohortError(f"{where}: 'hospital' is {name[:60]!r}, {_ADVICE}")


def read_pairs(path: Location) -> tuple[pa.Table, str]:
    """Reads and checks one Parquet file of a cohort, whose bytes are read once.

    Returns:
        Its rows, and the SHA-256 digest of the file in hexadecimal.

    Raises:
        CohortError: the file is truncated, lacks a column, or holds a bad value; the message names
            file, column and row.
    """
    try:
        # The partition directory must not become a column.
        content = path.read_bytes()
        table = pq.ParquetFile(pa.BufferReader(content)).read()
    except FileNotFoundError:
        raise CohortError(
            f"{path}: the file is missing; restore it or make the cohort again"
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise CohortError(
            f"{path}: not a readable Parquet file ({first_line(error)}); it may be truncated: "
            "restore it or make the cohort again"
        ) from None
    check_table(table, str(path))
    return table, hashlib.sha256(content).hexdigest()


def check_table(table: pa.Table, where: str) -> None:
    """Checks a table against the format of a cohort's files.

    Args:
        table: rows of one file.
        where: name of the file in messages.

    Raises:
        CohortError: names ``where``, the column and the first bad row.
    """
    check = _Checks(table, where)
    check.columns(SCHEMA)
    check.hospital()
    check.types()
    check.truth()
    check.breakpoints()
    if table.num_rows:
        check.one_pair_each("patient_id", "cell_id", "chromosome")
        check.one_level_each("patient_id", "cell_id")
        check.one_file()
        check.sequences()


def check_measured(
    table: pa.Table, where: str, place: Callable[[int], str] = "row {}".format
) -> None:
    """Checks pairs without labels, of any hospitals and in any order.

    Args:
        table: at least the columns of :data:`homnet.cohorts.pairs.MEASURED`.
        where: name of the table in messages.
        place: returns the name of a row in messages.

    Raises:
        CohortError: names ``where``, the column and the first bad row.
    """
    check = _Checks(table, where, place)
    check.columns(MEASURED)
    check.types()
    if table.num_rows:
        check.one_pair_each("hospital", "patient_id", "cell_id", "chromosome")
        check.one_level_each("hospital", "patient_id", "cell_id")
        check.sequences()


@dataclass(frozen=True)
class _Checks:
    """Checks of one table; ``where`` and ``place`` name it and its rows in messages."""

    table: pa.Table
    where: str
    place: Callable[[int], str] = "row {}".format

    def columns(self, schema: pa.Schema) -> None:
        """Every column exists, has its type, and is filled unless nullable."""
        for wanted in schema:
            name = wanted.name
            if name not in self.table.schema.names:
                raise CohortError(
                    f"{self.where}: column '{name}' is missing (at {self.place(0)} and everywhere)"
                )
            got = self.table.schema.field(name).type
            if got != wanted.type:
                hint = (
                    f"; a pair is {PAIR_BYTES} bytes of uint8 {PAIR_SHAPE}"
                    if name == "pair"
                    else ""
                )
                raise CohortError(
                    f"{self.where}: column '{name}' from {self.place(0)} on has type {got}, "
                    f"expected {wanted.type}{hint}; make it again"
                )
            if not wanted.nullable and self.table[name].null_count:
                self._fail(_first(pc.is_null(self.table[name])), f"'{name}' is empty")

    def hospital(self) -> None:
        """Hospitals have names that can be those of folders."""
        names = pc.unique(self.table["hospital"]).to_pylist()
        good = [name for name in names if re.fullmatch(HOSPITAL_NAME, name)]
        known = pc.is_in(self.table["hospital"], pa.array(good, pa.string()))
        self._refuse("hospital", known, _ADVICE)

    def types(self) -> None:
        """Chromosome types and band levels exist."""
        known = pc.is_in(self.table["chromosome"], pa.array(CHROMOSOMES))
        self._refuse("chromosome", known, "expected 1..22, X or Y")
        known = pc.is_in(self.table["band_level"], pa.array(BAND_LEVELS, pa.int16()))
        self._refuse("band_level", known, f"expected one of {BAND_LEVELS}")

    def truth(self) -> None:
        """Homolog, start and stop of an abnormality lie within the pair."""
        homolog = self.table["homolog"]
        located = pc.fill_null(pc.is_in(homolog, pa.array([0, 1], pa.int8())), True)
        located = pc.or_(located, pc.is_null(homolog))
        self._refuse("homolog", located, "expected 0, 1 or nothing")
        for name in ("start", "stop"):
            column = self.table[name]
            inside = pc.and_(pc.greater_equal(column, 0), pc.less_equal(column, SEQUENCE_LENGTH))
            self._refuse(name, pc.fill_null(inside, True), f"expected 0..{SEQUENCE_LENGTH}")
        sized = pc.fill_null(pc.greater(self.table["size_mb"], 0), True)
        self._refuse("size_mb", sized, "expected megabases above 0 or nothing")

    def breakpoints(self) -> None:
        """Breakpoints lie on the sequence, and their chromosomes exist."""
        column = self.table["breakpoints"].combine_chunks()
        places, row_of = pc.list_flatten(column), pc.list_parent_indices(column)
        position = pc.struct_field(places, "position")
        inside = pc.and_(pc.greater_equal(position, 0), pc.less(position, SEQUENCE_LENGTH))
        known = pc.is_in(pc.struct_field(places, "chromosome"), pa.array(CHROMOSOMES))
        for name, good, expected in (
            ("position", pc.fill_null(inside, True), f"0..{SEQUENCE_LENGTH - 1} or nothing"),
            ("chromosome", known, "1..22, X or Y"),
        ):
            bad = pc.invert(good)
            if pc.any(bad).as_py():
                first = _first(bad)
                self._fail(
                    row_of[first].as_py(),
                    f"'{name}' in 'breakpoints' is "
                    f"{pc.struct_field(places, name)[first].as_py()!r}, "
                    f"expected {expected}",
                )

    def one_pair_each(self, *key: str) -> None:
        """A cell has one pair of each type."""
        first_G = np.unique(self._codes(key), return_index=True)[1]
        if len(first_G) < self.table.num_rows:
            row = int(np.setdiff1d(np.arange(self.table.num_rows), first_G)[0])
            who = {name: self.table[name][row].as_py() for name in key}
            self._fail(
                row,
                f"a second pair of chromosome {who['chromosome']} in cell {who['cell_id']} of "
                f"patient {who['patient_id']}; a cell has one pair of each type",
            )

    def one_level_each(self, *key: str) -> None:
        """A cell has one band level."""
        _, first_G, group_N = np.unique(self._codes(key), return_index=True, return_inverse=True)
        level_N = self.table["band_level"].to_numpy()
        first_N = level_N[first_G[group_N]]
        other_N = level_N != first_N
        if other_N.any():
            row = int(other_N.argmax())
            who = {name: self.table[name][row].as_py() for name in key}
            self._fail(
                row,
                f"'band_level' is {level_N[row]}, but {first_N[row]} elsewhere in cell "
                f"{who['cell_id']} of patient {who['patient_id']}; a cell has one",
            )

    def one_file(self) -> None:
        """A file holds one hospital, and the rows of a patient's type are contiguous."""
        frame = self.table.select(["hospital", "patient_id", "chromosome"]).to_pandas()
        hospital = frame["hospital"]
        other = (hospital != hospital.iloc[0]).to_numpy()
        if other.any():
            row = int(other.argmax())
            self._fail(
                row,
                f"hospital '{hospital.iloc[row]}' in a file of hospital '{hospital.iloc[0]}'; a "
                "file holds one hospital",
            )
        keys = frame[["patient_id", "chromosome"]]
        starts = (keys != keys.shift()).any(axis=1).to_numpy()
        again = starts & keys.duplicated().to_numpy()
        if again.any():
            row = int(again.argmax())
            self._fail(
                row,
                f"rows of patient {keys['patient_id'].iloc[row]}, chromosome "
                f"{keys['chromosome'].iloc[row]} are not contiguous; sort by patient and "
                "chromosome",
            )

    def sequences(self) -> None:
        """Homolog 0 is there, and a chromosome's darkness is 0 beyond its end only."""
        dark_NPCL = pairs_of(self.table) != 0
        length_NPC = dark_NPCL.sum(axis=-1)
        gap_N = (dark_NPCL[..., 1:] > dark_NPCL[..., :-1]).any(axis=(1, 2, 3))
        uneven_N = (length_NPC[..., 0] != length_NPC[..., 1]).any(axis=1)
        for bad_N, what in (
            (length_NPC[:, 0].sum(axis=1) == 0, "has no chromosome in homolog 0 (all zeros)"),
            (gap_N, "has zeros before a sequence ends; darkness is 1 to 255 on a chromosome"),
            (uneven_N, "has two chromatids of different lengths; both go from tip to tip"),
        ):
            if bad_N.any():
                self._fail(int(bad_N.argmax()), f"'pair' {what}")

    def _codes(self, key: Sequence[str]) -> NDArray[np.int64]:
        """A number for each row (N), the same where all columns of the key are the same."""
        code_N = np.zeros(self.table.num_rows, np.int64)
        for name in key:
            column = self.table[name].combine_chunks().dictionary_encode()
            # Dense codes of the previous columns keep the product from overflowing.
            code_N = np.unique(code_N, return_inverse=True)[1]
            code_N = code_N * len(column.dictionary) + column.indices.to_numpy()
        return code_N

    def _refuse(self, column: str, good: Any, expected: str) -> None:
        bad = pc.invert(good)
        if pc.any(bad).as_py():
            row = _first(bad)
            self._fail(row, f"'{column}' is {self.table[column][row].as_py()!r}, {expected}")

    def _fail(self, row: int, what: str) -> None:
        raise CohortError(f"{self.where}: {self.place(row)}: {what}")


def _first(mask: Any) -> int:
    return int(pc.index(mask, pa.scalar(True)).as_py())
