"""Cohorts at rest: a directory of Parquet files, one row per homologous pair in one cell.

The pair column is ``fixed_size_binary`` because Parquet has no 8-bit integer: a list or tensor
column would be stored as 32-bit integers, four times the size and a tenth of the reading speed.

Shape suffixes: N rows, P homologs (2), C chromatids (2: left, right), L positions (512).
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from homnet.chromosomes import BAND_LEVELS, CHROMOSOMES, SEQUENCE_LENGTH
from homnet.errors import CohortError

SCHEMA_VERSION: Final = 1
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
    ]
)
"""One row is one pair in one cell. ``homolog``, ``start`` and ``stop`` locate the abnormality."""

_FILE_GLOB: Final = "hospital=*/*.parquet"


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
    _check_rows(table, where)


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


@dataclass(frozen=True)
class CohortFile:
    """One Parquet file of a cohort, as ``cohort.json`` lists it."""

    path: str
    """Path below the cohort directory."""
    hospital: str
    """Hospital of every row."""
    num_pairs: int
    """Rows."""
    patients: tuple[str, ...]
    """Patients of the file; none is in another file."""
    sha256: str
    """Digest of the file's bytes."""


@dataclass(frozen=True)
class Cohort:
    """A cohort directory that was opened and whose index was checked.

    Open one with :meth:`open`; make one with :func:`write_cohort`.
    """

    root: Path
    """The directory."""
    files: tuple[CohortFile, ...]
    """Its Parquet files, in order."""
    scale: Mapping[str, float]
    """Samples per image pixel of each hospital: sequences keep one physical scale per hospital."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the cohort came from: job, settings, seed, package version."""

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Opens a cohort directory.

        Raises:
            CohortError: there is no cohort, its index is damaged or of another version, or a listed
                file is missing.
        """
        root = Path(path)
        index = root / "cohort.json"
        if not index.is_file():
            raise CohortError(
                f"{root}: no cohort here (cohort.json is missing); make one with "
                "jobs/simulate.py or jobs/ingest.py"
            )
        try:
            content = json.loads(index.read_text())
            version = content["schema_version"]
            files = tuple(
                CohortFile(**{**entry, "patients": tuple(entry["patients"])})
                for entry in content["files"]
            )
            scale, provenance = content["scale"], content["provenance"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise CohortError(
                f"{index}: damaged cohort index ({error!r}); make the cohort again"
            ) from None
        if version != SCHEMA_VERSION:
            raise CohortError(
                f"{index}: schema version {version}, this package reads {SCHEMA_VERSION}; make the "
                "cohort again"
            )
        missing = [entry.path for entry in files if not (root / entry.path).is_file()]
        if missing:
            raise CohortError(f"{root / missing[0]}: the file is listed in cohort.json but missing")
        return cls(root=root, files=files, scale=scale, provenance=provenance)

    @property
    def hospitals(self) -> tuple[str, ...]:
        """Hospitals in the order of their files."""
        return tuple(dict.fromkeys(entry.hospital for entry in self.files))

    @property
    def num_pairs(self) -> int:
        """Pairs (not chromosomes, of which there are two in a pair)."""
        return sum(entry.num_pairs for entry in self.files)

    @property
    def num_patients(self) -> int:
        """Patients over all hospitals."""
        return sum(len(entry.patients) for entry in self.files)

    @property
    def patients(self) -> dict[str, list[str]]:
        """Patient ids by hospital."""
        found: dict[str, list[str]] = {}
        for entry in self.files:
            found.setdefault(entry.hospital, []).extend(entry.patients)
        return found

    @property
    def fingerprint(self) -> str:
        """Digest of the content: equal for equal files, wherever the cohort lies."""
        digest = hashlib.sha256()
        for entry in self.files:
            digest.update(f"{entry.path}:{entry.sha256}\n".encode())
        return digest.hexdigest()

    def of_hospitals(self, hospitals: Iterable[str]) -> Self:
        """The same cohort narrowed to some hospitals.

        Raises:
            CohortError: a hospital is not in the cohort.
        """
        wanted = tuple(hospitals)
        unknown = sorted(set(wanted) - set(self.hospitals))
        if unknown:
            raise CohortError(
                f"{self.root}: no hospital '{unknown[0]}'; it has {', '.join(self.hospitals)}"
            )
        files = tuple(entry for entry in self.files if entry.hospital in wanted)
        return type(self)(self.root, files, self.scale, self.provenance)

    def read(
        self, file: CohortFile | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Reads one file, or all of them, checking every row.

        Raises:
            CohortError: a file is truncated, was changed in length, or holds a bad value.
        """
        tables = []
        for entry in self.files if file is None else (file,):
            table = read_pairs(self.root / entry.path, columns)
            if table.num_rows != entry.num_pairs:
                raise CohortError(
                    f"{self.root / entry.path}: row {min(table.num_rows, entry.num_pairs)}: the "
                    f"file has {table.num_rows} rows, cohort.json says {entry.num_pairs}; "
                    "make the cohort again"
                )
            tables.append(table)
        return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def write_cohort(
    path: str | Path,
    tables: Iterable[pa.Table],
    *,
    scale: Mapping[str, float],
    provenance: Mapping[str, Any],
) -> Cohort:
    """Writes a cohort; the directory appears whole or not at all.

    Args:
        path: the directory to make; it must not exist.
        tables: each holds whole patients of one hospital and becomes one file. Rows are sorted by
            patient, chromosome and cell.
        scale: samples per image pixel of each hospital.
        provenance: job, settings, seed, package version; kept in ``cohort.json``.

    Raises:
        CohortError: the directory exists, a table is malformed, or a patient is in two tables.
    """
    root = Path(path)
    if root.exists():
        raise CohortError(f"{root}: exists already; remove it or choose another --output")
    root.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        files: list[CohortFile] = []
        seen: set[tuple[str, str]] = set()
        for table in tables:
            if table.num_rows == 0:
                continue
            entry = _write_file(staging, table, len(files))
            twice = seen.intersection((entry.hospital, p) for p in entry.patients)
            if twice:
                raise CohortError(
                    f"{root}: patient {min(twice)[1]} is in two files; give whole patients"
                )
            seen.update((entry.hospital, p) for p in entry.patients)
            files.append(entry)
        if not files:
            raise CohortError(f"{root}: there is no pair to write")
        index = {
            "schema_version": SCHEMA_VERSION,
            "scale": dict(scale),
            "provenance": dict(provenance),
            "files": [entry.__dict__ for entry in files],
        }
        cohort = Cohort(staging, tuple(files), dict(scale), dict(provenance))
        index["counts"] = {"pairs": cohort.num_pairs, "patients": cohort.num_patients}
        index["fingerprint"] = cohort.fingerprint
        (staging / "cohort.json").write_text(json.dumps(index, indent=1))
        staging.chmod(0o755)
        os.replace(staging, root)  # noqa: PTH105  (Path.rename differs between systems)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return Cohort.open(root)


def _write_file(root: Path, table: pa.Table, number: int) -> CohortFile:
    order = pc.sort_indices(
        pa.table(
            {
                "patient_id": table["patient_id"],
                "type": pc.index_in(table["chromosome"], pa.array(CHROMOSOMES)),
                "cell_id": table["cell_id"],
            }
        ),
        sort_keys=[("patient_id", "ascending"), ("type", "ascending"), ("cell_id", "ascending")],
    )
    table = table.take(order)
    hospital = table["hospital"][0].as_py()
    relative = f"hospital={hospital}/pairs-{number:05d}.parquet"
    check_table(table, relative)
    target = root / relative
    target.parent.mkdir(exist_ok=True)
    pq.write_table(table, target, compression="zstd", row_group_size=2048)
    return CohortFile(
        path=relative,
        hospital=hospital,
        num_pairs=table.num_rows,
        patients=tuple(pc.unique(table["patient_id"]).to_pylist()),
        sha256=hashlib.sha256(target.read_bytes()).hexdigest(),
    )
