"""Cohorts at rest: a directory of Parquet files of pairs, and an index, ``cohort.json``."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from homnet.chromosomes import CHROMOSOMES
from homnet.errors import CohortError
from homnet.pairs import SCHEMA, check_table, read_pairs

SCHEMA_VERSION: Final = 1


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
