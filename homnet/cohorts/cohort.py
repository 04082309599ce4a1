"""Cohorts on disk: a directory of Parquet files of pairs, and an index, ``cohort.json``.

The index holds a digest of its whole content in ``sha256``, and the digest of each file. An index
of schema version 2 is of an earlier version: it has no digest of itself and is still read.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from homnet.cohorts.checks import check_table, read_pairs, require_hospital_name
from homnet.cohorts.pairs import SCHEMA
from homnet.errors import CohortError
from homnet.files import is_published, parse_json, replacing_directory, write_whole
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.locations import Location, first_missing, to_location

SCHEMA_VERSION: Final = 3
_WITHOUT_DIGEST: Final = 2
"""Earlier schema version that is still read."""
INDEX: Final = "cohort.json"
"""File name of a cohort's index."""


@dataclass(frozen=True)
class CohortFile:
    """Entry of ``cohort.json`` for one Parquet file."""

    path: str
    """Path relative to the cohort directory, with forward slashes; never leaves it."""
    hospital: str
    """Hospital of every row."""
    num_pairs: int
    """Number of rows."""
    patients: tuple[str, ...]
    """Patients of the file; none is in another file."""
    sha256: str
    """SHA-256 digest of the file."""
    num_abnormal: int | None = None
    """Number of structurally abnormal pairs; None in an older index without this count."""


@dataclass(frozen=True)
class Cohort:
    """A cohort directory with a checked index.

    Open one with :meth:`open`; create one with :func:`write_cohort`.
    """

    root: Location
    """Absolute path of the directory, or its URI."""
    files: tuple[CohortFile, ...]
    """Its Parquet files, in order."""
    scale: Mapping[str, float]
    """Samples per image pixel of each hospital; all sequences of a hospital have the same scale."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Origin of the cohort: job, settings, seed, package version."""

    @classmethod
    def open(cls, path: str | Location) -> Self:
        """Opens a cohort directory, a local one or one at a URI.

        Raises:
            CohortError: the URI names no store, there is no cohort, its index is damaged, changed
                or of another version, a file is missing or outside the directory, or the name of a
                hospital cannot be that of a folder.
        """
        # Absolute: tasks on other nodes have other working directories.
        root = to_location(path, error=CohortError).absolute()
        index = root / INDEX
        if not index.is_file():
            raise CohortError(
                f"{root}: no cohort here (cohort.json is missing); make one with "
                "jobs/simulate.py or jobs/ingest.py"
            )
        again = "make the cohort again"
        try:
            content = parse_json(index.read_bytes(), index, error=CohortError, advice=again)
        except OSError as error:
            raise CohortError(
                f"{index}: cannot be read ({error.strerror or error}); give access"
            ) from None
        version = content.get("schema_version")
        if version not in (_WITHOUT_DIGEST, SCHEMA_VERSION):
            raise CohortError(
                f"{index}: schema version {version}, this package reads {_WITHOUT_DIGEST} and "
                f"{SCHEMA_VERSION}; {again}"
            )
        digest = content.pop("sha256", None)
        if digest != (_index_digest(content) if version == SCHEMA_VERSION else None):
            raise CohortError(
                f"{index}: changed since the cohort was made (its digest is "
                f"{'wrong' if digest else 'missing'}); restore the file or {again}"
            )
        try:
            files = tuple(_entry(entry) for entry in content["files"])
            provenance = dict(content["provenance"])
            hospitals = tuple(dict.fromkeys(entry.hospital for entry in files))
            for hospital in hospitals:
                require_hospital_name(hospital, index)
            scale = _checked_scale(index, content["scale"], hospitals)
        except (KeyError, TypeError, ValueError) as error:
            raise CohortError(f"{index}: damaged cohort index ({error!r}); {again}") from None
        places = {entry.path: root / entry.path for entry in files}
        if len(places) < len(files):
            raise CohortError(f"{index}: a file is listed twice; {again}")
        missing = first_missing(list(places.values()))
        if missing is not None:
            raise CohortError(f"{missing}: the file is listed in cohort.json but missing")
        inside = root.resolve()
        for place in places.values():
            if inside not in place.resolve().parents:
                raise CohortError(
                    f"{place}: a link to outside the cohort; copy the file into the cohort"
                )
        return cls(root=root, files=files, scale=scale, provenance=provenance)

    @property
    def hospitals(self) -> tuple[str, ...]:
        """Hospitals in the order of their files."""
        return tuple(dict.fromkeys(entry.hospital for entry in self.files))

    @property
    def num_pairs(self) -> int:
        """Number of pairs in all files."""
        return sum(entry.num_pairs for entry in self.files)

    @property
    def num_patients(self) -> int:
        """Number of patients in all hospitals."""
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
        """SHA-256 digest of the content, independent of the storage location."""
        digest = hashlib.sha256()
        for entry in self.files:
            digest.update(f"{entry.path}:{entry.sha256}\n".encode())
        return digest.hexdigest()

    def hospitals_with_abnormal_pairs(self) -> tuple[str, ...]:
        """Hospitals with a structurally abnormal pair, in the order of their files.

        Reads only files without a count of abnormal pairs in the index.

        Raises:
            CohortError: such a file is damaged.
        """
        counts = {
            entry: _num_abnormal(self.read(entry, ["abnormal"]))
            if entry.num_abnormal is None
            else entry.num_abnormal
            for entry in self.files
        }
        return tuple(dict.fromkeys(entry.hospital for entry, count in counts.items() if count))

    def of_hospitals(self, hospitals: Iterable[str]) -> Self:
        """The part of the cohort from the given hospitals.

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
        return replace(self, files=files, scale={name: self.scale[name] for name in wanted})

    def read(
        self, file: CohortFile | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Reads one file or all files, and checks every row and the digests.

        Raises:
            CohortError: a file is truncated, holds a bad value, or was changed.
        """
        tables = []
        for entry in self.files if file is None else (file,):
            place = self.root / entry.path
            try:
                table, digest = read_pairs(place)
            except (ValueError, pa.ArrowException) as error:
                raise CohortError(
                    f"{place}: damaged ({type(error).__name__}); restore the file or make the "
                    "cohort again"
                ) from None
            if table.num_rows != entry.num_pairs:
                raise CohortError(
                    f"{place}: row {min(table.num_rows, entry.num_pairs)}: the file has "
                    f"{table.num_rows} rows, cohort.json says {entry.num_pairs}; make the cohort "
                    "again"
                )
            # After the checks, which name the bad row.
            if digest != entry.sha256:
                raise CohortError(
                    f"{place}: changed since the cohort was made (its digest is not that of "
                    "cohort.json); restore the file or make the cohort again"
                )
            if entry.num_abnormal not in (None, _num_abnormal(table)):
                raise CohortError(
                    f"{place}: the file has {_num_abnormal(table)} abnormal pairs, cohort.json "
                    f"says {entry.num_abnormal}; make the cohort again"
                )
            tables.append(table if columns is None else table.select(list(columns)))
        return pa.concat_tables(tables) if tables else SCHEMA.empty_table()

    def columns(self, file: CohortFile, names: Sequence[str]) -> pa.Table:
        """Reads some columns of one file and checks nothing; for counts before the pairs are read.

        Raises:
            CohortError: the file is missing, truncated or lacks a column.
        """
        path = self.root / file.path
        try:
            with path.open("rb") as opened:
                table = pq.ParquetFile(opened).read(list(names))
        except (pa.ArrowException, OSError) as error:
            raise CohortError(
                f"{path}: not a readable Parquet file ({type(error).__name__}); restore the file "
                "or make the cohort again"
            ) from None
        for name in set(names).difference(table.column_names):
            raise CohortError(f"{path}: column '{name}' is missing; make the cohort again")
        return table


def write_cohort(
    path: str | Location,
    tables: Iterable[pa.Table],
    *,
    scale: Mapping[str, float],
    provenance: Mapping[str, Any],
) -> Cohort:
    """Writes a cohort atomically.

    Args:
        path: directory or URI to create; it must not exist.
        tables: one per file, each with all rows of some patients of one hospital. Rows are sorted
            by patient, chromosome and cell.
        scale: samples per image pixel of each hospital.
        provenance: job, settings, seed, package version; kept in ``cohort.json``.

    Raises:
        CohortError: the directory exists, a table is malformed, or a patient is in two tables or
            hospitals.
        DataError: another run wrote a cohort there meanwhile.
    """
    root = to_location(path, error=CohortError)
    if is_published(root):
        raise CohortError(f"{root}: exists already; remove it or choose another --output")
    with replacing_directory(root, last=INDEX, new=True) as made:
        files: list[CohortFile] = []
        for table in tables:
            if table.num_rows == 0:
                continue
            relative = file_path(table["hospital"][0].as_py(), len(files))
            (made / relative).parent.mkdir(exist_ok=True)
            write_file(made / relative, table, relative)
            files.append(describe_file(made / relative, relative))
        if not files:
            raise CohortError(f"{root}: there is no pair to write")
        write_index(made / INDEX, files, scale=scale, provenance=provenance)
    return Cohort.open(root)


def file_path(hospital: str, number: int) -> str:
    """Path of file ``number``, with pairs of one hospital, relative to the cohort directory.

    Raises:
        CohortError: the name of the hospital cannot be that of a folder.
    """
    require_hospital_name(hospital, f"file {number}")
    return f"hospital={hospital}/pairs-{number:05d}.parquet"


def write_file(target: Path, table: pa.Table, relative: str) -> None:
    """Writes one file of a cohort: rows sorted by patient, chromosome and cell.

    Args:
        target: path of the file, in an existing folder.
        table: all rows of some patients of one hospital.
        relative: name of the file in messages.

    Raises:
        CohortError: the table is malformed.
    """
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
    check_table(table, relative)
    pq.write_table(table, target, compression="zstd", row_group_size=2048)


def describe_file(path: Location, relative: str) -> CohortFile:
    """The index entry of a file written by :func:`write_file`, whose path will be ``relative``.

    Raises:
        CohortError: the file is missing, truncated or not a Parquet file.
    """
    try:
        content = path.read_bytes()
        names = pq.ParquetFile(pa.BufferReader(content)).read(
            ["hospital", "patient_id", "abnormal"]
        )
    except (pa.ArrowException, OSError) as error:
        raise CohortError(f"{path}: not a readable Parquet file ({type(error).__name__})") from None
    return CohortFile(
        path=relative,
        hospital=names["hospital"][0].as_py(),
        num_pairs=names.num_rows,
        patients=tuple(pc.unique(names["patient_id"]).to_pylist()),
        sha256=hashlib.sha256(content).hexdigest(),
        num_abnormal=_num_abnormal(names),
    )


def write_index(
    target: Path,
    files: Sequence[CohortFile],
    *,
    scale: Mapping[str, float],
    provenance: Mapping[str, Any],
) -> None:
    """Writes ``cohort.json`` with the files in the given order.

    Raises:
        CohortError: a patient is in two files or in two hospitals, or a hospital has no scale or a
            name that cannot be that of a folder.
    """
    for entry in files:
        require_hospital_name(entry.hospital, entry.path)
    refuse_shared_patients((one, entry.hospital) for entry in files for one in entry.patients)
    seen: dict[str, str] = {}
    for entry in files:
        for patient in entry.patients:
            other = seen.setdefault(patient, entry.path)
            if other != entry.path:
                raise CohortError(
                    f"{entry.path}: patient {patient} is in two files, the other is {other}; give "
                    "whole patients"
                )
    found = Cohort(target.parent, tuple(files), scale, provenance)
    cohort = replace(found, scale=_checked_scale(target, scale, found.hospitals))
    index = {
        "schema_version": SCHEMA_VERSION,
        "scale": cohort.scale,
        "provenance": cohort.provenance,
        "files": [entry.__dict__ for entry in files],
        "counts": {"pairs": cohort.num_pairs, "patients": cohort.num_patients},
        "fingerprint": cohort.fingerprint,
    }
    try:
        # Through JSON, so that the digest is of what will be read.
        index = json.loads(json.dumps(index, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CohortError(f"{target}: the provenance cannot be stored as JSON ({error})") from None
    write_whole(target, json.dumps({**index, "sha256": _index_digest(index)}, indent=1))


def _index_digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of an index without its digest, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _entry(content: Any) -> CohortFile:
    """Reads the entry of a file; raises ValueError, TypeError or KeyError if it is malformed."""
    entry = CohortFile(**{**content, "patients": tuple(content["patients"])})
    path = PurePosixPath(entry.path)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.path or str(path) != entry.path:
        raise ValueError(f"the path {entry.path!r} is not a path within the cohort")
    counts = [entry.num_pairs, 0 if entry.num_abnormal is None else entry.num_abnormal]
    if (
        not all(isinstance(one, str) for one in (entry.hospital, entry.sha256, *entry.patients))
        or not isinstance(content["patients"], list)
        or not all(type(count) is int and count >= 0 for count in counts)
    ):
        raise ValueError(f"the entry of {entry.path} has a value of a wrong type")
    return entry


def _checked_scale(index: Location, scale: Any, hospitals: Sequence[str]) -> dict[str, float]:
    """The scale of each hospital.

    Raises:
        CohortError: a hospital has none, or one that is no number above 0.
    """
    for hospital in hospitals:
        one = scale.get(hospital) if isinstance(scale, Mapping) else None
        if not isinstance(one, int | float) or not 0 < one < math.inf:
            raise CohortError(
                f"{index}: the scale of hospital '{hospital}' is {one!r}, expected samples per "
                "image pixel, a number above 0"
            )
    return {hospital: float(scale[hospital]) for hospital in hospitals}


def refuse_shared_patients(patients: Iterable[tuple[str, str]]) -> None:
    """Raises if two hospitals use the same patient id: splits could not distinguish the two people.

    Args:
        patients: id and hospital of each patient.

    Raises:
        CohortError: names the patient and both hospitals.
    """
    seen: dict[str, str] = {}
    for patient, hospital in patients:
        other = seen.setdefault(patient, hospital)
        if other != hospital:
            raise CohortError(
                f"patient {patient} is in hospital '{other}' and in hospital '{hospital}'; a "
                "patient id names one person of one hospital: rename one of them"
            )


def _num_abnormal(table: pa.Table) -> int:
    return int(np.count_nonzero(table["abnormal"]))
