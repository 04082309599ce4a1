"""The rows of a cohort: one row per homologous pair in one cell.

The pair column is ``fixed_size_binary`` because Parquet has no 8-bit integers: a list or tensor
column would be stored as 32-bit integers, four times as large and ten times slower to read.

Shape suffixes: N rows, P homologs (2), C chromatids (2: left, right), L positions (512).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from homnet.errors import CohortError
from homnet.karyotype.chromosomes import SEQUENCE_LENGTH

PAIR_SHAPE: Final = (2, 2, SEQUENCE_LENGTH)
PAIR_BYTES: Final = 2 * 2 * SEQUENCE_LENGTH
SINGLE_HOMOLOG: Final = "single_homolog"
"""Quality flag of a row with a single homolog: a male X or Y, or a missing chromosome."""
THIRD_COPY: Final = "third_copy"
"""Quality flag of a row whose cell has more than two chromosomes of the type."""
SAME_PIXELS: Final = "same_pixels"
"""Quality flag of a row with an image that has the pixels of another one."""
TURNED: Final = "turned"
"""Quality flag of a row with a chromosome that lay upside down in its image and was turned."""
ENDS_UNCERTAIN: Final = "ends_uncertain"
"""Quality flag of a row with a chromosome that may lie upside down; it was left as it was."""
LEVEL_ESTIMATED: Final = "band_level_estimated"
"""Quality flag of a row whose cell had no stated band level."""
LEVEL_DOUBTED: Final = "band_level_doubted"
"""Quality flag of a row whose cell shows other bands than its stated level has."""

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
"""One row per pair and cell. ``homolog``, ``start`` and ``stop`` locate the abnormality;
``size_mb``, ``iscn`` and ``breakpoints`` describe it. ``variant`` names normal variants."""
MEASURED: Final = pa.schema([SCHEMA.field(index) for index in range(6)])
"""Columns without labels: identity and measurements of a pair."""


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
        kind: kind of the abnormality, or None.
        homolog: abnormal homolog (0 or 1), or None.
        start: first position of the event, or None.
        stop: position after the event, or None.
        quality: dicts of straightness, width_variation and flags, or None.
        size_mb: megabases of the rearranged segment, or None.
        iscn: name of the abnormality in the short form of ISCN, with bands of the row's level.
        breakpoints: dicts of chromosome, band, mb from the tip of the short arm, and position on
            the sequence of the abnormal homolog (None if it is not on it).
        variant: names of normal variants of either homolog, separated by commas, or None.

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
    filled = {
        f.name: pa.nulls(num_rows, f.type) if columns[f.name] is None else columns[f.name]
        for f in SCHEMA
    }
    return pa.Table.from_pydict(filled, schema=SCHEMA)


def pairs_of(table: pa.Table) -> NDArray[np.uint8]:
    """The pair column as darkness (N, 2, 2, 512), uint8; a read-only view if possible."""
    chunk = table["pair"].combine_chunks()
    flat = np.frombuffer(chunk.buffers()[1], np.uint8)
    begin = chunk.offset * PAIR_BYTES
    return flat[begin : begin + len(chunk) * PAIR_BYTES].reshape(-1, *PAIR_SHAPE)
