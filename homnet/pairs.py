"""The rows of a cohort: one row per homologous pair in one cell, and the checks on them.

The pair column is ``fixed_size_binary`` because Parquet has no 8-bit integer: a list or tensor
column would be stored as 32-bit integers, four times the size and a tenth of the reading speed.

Shape suffixes: N rows, P homologs (2), C chromatids (2: left, right), L positions (512).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from homnet.chromosomes import BAND_LEVELS, CHROMOSOMES, SEQUENCE_LENGTH
from homnet.errors import CohortError

PAIR_SHAPE: Final = (2, 2, SEQUENCE_LENGTH)
PAIR_BYTES: Final = 2 * 2 * SEQUENCE_LENGTH
SINGLE_HOMOLOG: Final = "single_homolog"
"""Quality flag of a row with one homolog only: a male X or Y, or a missing chromosome."""

QUALITY: Final = pa.struct(
    [
        ("straightness", pa.float32()),
        ("width_variation", pa.float32()),
        ("flags", pa.list_(pa.string())),
    ]
)
BREAKPOINTS: Final = pa.list_(
    pa.struct(
        [
            ("position", pa.int16()),
            ("chromosome", pa.string()),
            ("band", pa.string()),
            ("mb", pa.float32()),
        ]
    )
)
SCHEMA: Final = pa.schema(
    [
        pa.field("hospital", pa.string(), nullable=False),
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("cell_id", pa.string(), nullable=False),
        pa.field("chromosome", pa.string(), nullable=False),
        pa.field("band_level", pa.int16(), nullable=False),
        pa.field("pair", pa.binary(PAIR_BYTES), nullable=False),
        pa.field("abnormal", pa.bool_(), nullable=False),
        pa.field("kind", pa.string()),
        pa.field("homolog", pa.int8()),
        pa.field("start", pa.int16()),
        pa.field("stop", pa.int16()),
        pa.field("quality", QUALITY),
        pa.field("size_mb", pa.float32()),
        pa.field("iscn", pa.string()),
        pa.field("breakpoints", BREAKPOINTS),
        pa.field("variant", pa.string()),
    ]
)
"""One row is one pair in one cell. ``homolog``, ``start`` and ``stop`` locate the abnormality;
``size_mb``, ``iscn`` and ``breakpoints`` say what it is. ``variant`` names harmless variants, which
are no abnormality."""


def pair_table(
    *,
    hospital: Sequence[str],
    patient_id: Sequence[str],
    cell_id: Sequence[str],
    chromosome: Sequence[str],
    band_level: Sequence[int],
    pair: NDArray[np.uint8],
    abnormal: Sequence[bool],
    kind: Sequence[str | None] | None = None,
    homolog: Sequence[int | None] | None = None,
    start: Sequence[int | None] | None = None,
    stop: Sequence[int | None] | None = None,
    quality: Sequence[Mapping[str, Any] | None] | None = None,
    size_mb: Sequence[float | None] | None = None,
    iscn: Sequence[str | None] | None = None,
    breakpoints: Sequence[Sequence[Mapping[str, Any]] | None] | None = None,
    variant: Sequence[str | None] | None = None,
) -> pa.Table:
    """Builds a table of :data:`SCHEMA` from columns of length N.

    Args:
        hospital: pseudonym of the hospital of each row.
        patient_id: pseudonym of the patient.
        cell_id: pseudonym of the cell, unique within the patient.
        chromosome: type, ``"1"``..``"22"``, ``"X"``, ``"Y"``.
        band_level: 300, 400, 550 or 700.
        pair: darkness (N, 2, 2, 512), uint8: homolog, chromatid, position.
        abnormal: whether the pair holds a structurally abnormal homolog.
        kind: what it is, or None.
        homolog: which homolog (0 or 1), or None.
        start: first position of the event, or None.
        stop: position after the event, or None.
        quality: dicts of straightness, width_variation and flags, or None.
        size_mb: megabases of the rearranged segment, or None.
        iscn: name of the abnormality in the short form of ISCN, with bands of the row's level.
        breakpoints: dicts of chromosome, band, mb from the tip of the short arm, and the position
            on the sequence of the abnormal homolog (None when it does not lie there).
        variant: names of harmless variants of either homolog, separated by commas, or None.

    Raises:
        CohortError: ``pair`` has another shape or dtype.
    """
    num_rows = len(hospital)
    if pair.dtype != np.uint8 or pair.shape != (num_rows, *PAIR_SHAPE):
        raise CohortError(
            f"pairs must be uint8 of shape {(num_rows, *PAIR_SHAPE)}, got {pair.dtype} {pair.shape}"
        )
    buffer = pa.py_buffer(np.ascontiguousarray(pair).data)
    columns = {
        "hospital": hospital,
        "patient_id": patient_id,
        "cell_id": cell_id,
        "chromosome": chromosome,
        "band_level": band_level,
        "pair": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(PAIR_BYTES), num_rows, [None, buffer]
        ),
        "abnormal": abnormal,
        "kind": kind,
        "homolog": homolog,
        "start": start,
        "stop": stop,
        "quality": quality,
        "size_mb": size_mb,
        "iscn": iscn,
        "breakpoints": breakpoints,
        "variant": variant,
    }
    arrays = [
        value
        if isinstance(value, pa.Array)
        else pa.nulls(num_rows, f.type)
        if value is None
        else pa.array(value, f.type)
        for f, value in ((f, columns[f.name]) for f in SCHEMA)
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def pairs_of(table: pa.Table) -> NDArray[np.uint8]:
    """The pair column as darkness (N, 2, 2, 512), uint8: a read-only view where possible."""
    column = table["pair"].combine_chunks()
    chunk = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    flat = np.frombuffer(chunk.buffers()[1], np.uint8)
    begin = chunk.offset * PAIR_BYTES
    return flat[begin : begin + len(chunk) * PAIR_BYTES].reshape(-1, *PAIR_SHAPE)


def read_pairs(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads and checks one Parquet file of a cohort.

    Args:
        path: the file.
        columns: names to keep after checking; all by default.

    Raises:
        CohortError: the file is truncated, lacks a column, or holds a bad value; the message names
            file, column and row.
    """
    try:
        # The partition directory must not be read as a column of its own.
        table = pq.ParquetFile(path).read()
    except FileNotFoundError:
        raise CohortError(
            f"{path}: the file is missing; restore it or make the cohort again"
        ) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise CohortError(
            f"{path}: not a readable Parquet file ({_first_line(error)}); it may be truncated: "
            "restore it or make the cohort again"
        ) from None
    check_table(table, str(path))
    return table if columns is None else table.select(list(columns))


def check_table(table: pa.Table, where: str) -> None:
    """Checks a table against the format.

    Args:
        table: rows of one file.
        where: what to call the file in messages.

    Raises:
        CohortError: names ``where``, the column and the first bad row.
    """
    for wanted in SCHEMA:
        if wanted.name not in table.schema.names:
            raise CohortError(
                f"{where}: column '{wanted.name}' is missing (at row 0 and everywhere)"
            )
        got = table.schema.field(wanted.name).type
        if got != wanted.type:
            hint = (
                f"; a pair is {PAIR_BYTES} bytes of uint8 {PAIR_SHAPE}"
                if wanted.name == "pair"
                else ""
            )
            raise CohortError(
                f"{where}: column '{wanted.name}' from row 0 on has type {got}, "
                f"expected {wanted.type}{hint}; make the cohort again"
            )
        if not wanted.nullable and table[wanted.name].null_count:
            raise CohortError(
                f"{where}: row {_first(pc.is_null(table[wanted.name]))}: '{wanted.name}' is empty"
            )
    _refuse(
        table,
        where,
        "chromosome",
        pc.is_in(table["chromosome"], pa.array(CHROMOSOMES)),
        "expected 1..22, X or Y",
    )
    _refuse(
        table,
        where,
        "band_level",
        pc.is_in(table["band_level"], pa.array(BAND_LEVELS, pa.int16())),
        f"expected one of {BAND_LEVELS}",
    )
    located = pc.fill_null(pc.is_in(table["homolog"], pa.array([0, 1], pa.int8())), True)
    located = pc.or_(located, pc.is_null(table["homolog"]))
    _refuse(table, where, "homolog", located, "expected 0, 1 or nothing")
    for name in ("start", "stop"):
        inside = pc.and_(
            pc.greater_equal(table[name], 0), pc.less_equal(table[name], SEQUENCE_LENGTH)
        )
        _refuse(table, where, name, pc.fill_null(inside, True), f"expected 0..{SEQUENCE_LENGTH}")
    sized = pc.fill_null(pc.greater(table["size_mb"], 0), True)
    _refuse(table, where, "size_mb", sized, "expected megabases above 0 or nothing")
    _check_breakpoints(table, where)
    _check_rows(table, where)


def _check_breakpoints(table: pa.Table, where: str) -> None:
    """Breakpoints lie on the sequence, and on chromosomes that there are."""
    column = table["breakpoints"].combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
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
            raise CohortError(
                f"{where}: row {row_of[first].as_py()}: '{name}' in 'breakpoints' is "
                f"{places[first].as_py()[name]!r}, expected {expected}"
            )


def _check_rows(table: pa.Table, where: str) -> None:
    """Duplicates, contiguity, one hospital per file, and pairs without any chromosome."""
    if table.num_rows == 0:
        return
    frame = table.select(["hospital", "patient_id", "cell_id", "chromosome"]).to_pandas()
    duplicate = frame.duplicated(["patient_id", "cell_id", "chromosome"]).to_numpy()
    if duplicate.any():
        row = int(duplicate.argmax())
        who = frame.iloc[row]
        raise CohortError(
            f"{where}: row {row}: a second pair of chromosome {who.chromosome} in cell "
            f"{who.cell_id} of patient {who.patient_id}; a cell has one pair of each type"
        )
    other = (frame["hospital"] != frame["hospital"].iloc[0]).to_numpy()
    if other.any():
        row = int(other.argmax())
        raise CohortError(
            f"{where}: row {row}: hospital '{frame['hospital'].iloc[row]}' in a file of hospital "
            f"'{frame['hospital'].iloc[0]}'; a file holds one hospital"
        )
    keys = frame[["patient_id", "chromosome"]]
    starts = (keys != keys.shift()).any(axis=1).to_numpy()
    again = starts & keys.duplicated().to_numpy()
    if again.any():
        row = int(again.argmax())
        raise CohortError(
            f"{where}: row {row}: rows of patient {keys['patient_id'].iloc[row]}, chromosome "
            f"{keys['chromosome'].iloc[row]} are not contiguous; sort by patient and chromosome"
        )
    empty = ~pairs_of(table)[:, 0].any(axis=(1, 2))
    if empty.any():
        raise CohortError(
            f"{where}: row {int(empty.argmax())}: 'pair' has no chromosome in homolog 0 (all zeros)"
        )


def _refuse(table: pa.Table, where: str, column: str, good: Any, expected: str) -> None:
    bad = pc.invert(good)
    if pc.any(bad).as_py():
        row = _first(bad)
        raise CohortError(
            f"{where}: row {row}: '{column}' is {table[column][row].as_py()!r}, {expected}"
        )


def _first(mask: Any) -> int:
    return int(pc.index(mask, pa.scalar(True)).as_py())


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
