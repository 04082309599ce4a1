"""Ingest: makes a cohort from images of chromosomes, or from karyograms.

Ray Data reads and measures the images in blocks. The driver pairs the homologs as blocks arrive and
writes the cohort files. The report beside the cohort has a row for every unusable, unused or
flagged image.
"""

import dataclasses
import hashlib
import hmac
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, cast

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import ray

from homnet import PROGRAM, __version__
from homnet.cohorts.checks import HOSPITAL_NAME
from homnet.cohorts.cohort import Cohort, refuse_shared_patients, write_cohort
from homnet.cohorts.pairs import LEVEL_DOUBTED, LEVEL_ESTIMATED, SINGLE_HOMOLOG
from homnet.cohorts.summary import has_flag
from homnet.errors import CohortError, ConfigError
from homnet.files import is_published, replacing
from homnet.imaging.extraction import ExtractionConfig
from homnet.imaging.manifest import (
    CHROMOSOME_KEY,
    find_image,
    nfc,
    read_manifest,
)
from homnet.imaging.pairing import (
    Source,
    leave_out_wide,
    measure_rows,
    note_same_pixels,
    pair_up,
    set_band_levels,
    set_upright,
)
from homnet.imaging.reading import MAX_BYTES, read_content
from homnet.karyotype.chromosomes import BAND_LEVELS
from homnet.locations import Location
from homnet.secret_key import read_secret_key
from homnet_platform.job import LocationOption
from homnet_platform.karyograms import KaryogramConfig, cut_karyograms, pages_of
from homnet_platform.progress import driver_bar
from homnet_platform.runtime import local_or_cluster

_IMAGES_PER_BLOCK: Final = 256
"""About a second of work: long compared with task overhead, short enough for a smooth bar."""
Turn = Literal["images", "karyograms", "never"]
"""By which rule chromosomes that lie upside down are turned."""
KEY_VARIABLE: Final = "HOMNET_PSEUDONYM_KEY"
_PERSON: Final = ["hospital", "patient_id"]
_REPORTED: Final = [
    "row",
    "path",
    *CHROMOSOME_KEY,
    "homolog",
    "reason",
    "flags",
    "note",
    "straightness",
    "width_variation",
]


@dataclass(frozen=True)
class IngestConfig:
    """Images and the cohort to make from them."""

    output: LocationOption
    """Directory or URI of the cohort; it must not exist. Report: ``<output>-extraction.csv``."""
    manifest: LocationOption | None = None
    """CSV with path (relative to its folder), patient_id, cell_id, chromosome and homolog, of
    images of single chromosomes."""
    karyograms: LocationOption | None = None
    """Folder or URI of karyograms, instead of a manifest; what is cut out of them is kept in
    ``<output>-chromosomes``."""
    karyogram: KaryogramConfig = field(default_factory=KaryogramConfig)
    """Names, layout and scale of karyograms."""
    hospital: str = "hospital"
    """Hospital of rows without one."""
    band_level: int | None = None
    """Band level of cells for which none is stated: 300, 400, 550 or 700. By default it is
    estimated from their chromosomes."""
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)
    """How chromosomes are measured."""
    turn: Turn | None = None
    """Which chromosomes that lie upside down are turned. ``images``: those that certainly do, even
    if all of their type do. ``karyograms``: those that lie otherwise than most of their type, for
    a person has set the others upright. ``never``: none. By default by what is given."""
    images_per_file: int = 4000
    """Approximate number of images per cohort file; a patient stays in one file."""
    pseudonym_key_file: Path | None = None
    """File with the secret key, at least 16 bytes, for the digests that replace the names of
    patients and cells; a newline at its end is no part of it. The variable HOMNET_PSEUDONYM_KEY
    can hold the key instead. It is never stored. Without a key, names are kept."""

    def __post_init__(self) -> None:
        if (self.manifest is None) == (self.karyograms is None):
            raise ConfigError("give either --manifest or --karyograms")
        if self.karyograms is None and self.karyogram != KaryogramConfig():
            raise ConfigError("--karyogram.* is for --karyograms; remove it")
        require_defaults(self.hospital, self.band_level)
        if self.images_per_file < 1:
            raise ConfigError(f"images_per_file is {self.images_per_file}; give at least 1")


def require_defaults(hospital: str, band_level: int | None) -> None:
    """Checks what is said of images that name no hospital or band level.

    Raises:
        ConfigError: names the option that is wrong.
    """
    if not re.fullmatch(HOSPITAL_NAME, nfc(hospital)):
        raise ConfigError(f"--hospital is {hospital!r}; use letters, digits, '.', '_' and '-' only")
    if band_level not in (None, *BAND_LEVELS):
        raise ConfigError(f"--band-level is {band_level}; give one of {BAND_LEVELS}")


def report_of(cohort: Location) -> Location:
    """Path of the CSV of unusable, unused and flagged images beside a cohort."""
    return cohort.with_name(f"{cohort.name}-extraction.csv")


@dataclass
class IngestSummary:
    """Outcome of an ingest, collected part by part."""

    report: Location
    """CSV of every image that is unusable, unused or flagged."""
    num_images: int
    """Number of rows in the manifest."""
    cohort: Cohort = field(init=False)
    """The cohort, once all parts are written."""
    num_single: int = 0
    """Number of chromosomes with one usable homolog; kept with flag ``single_homolog``."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Number of images without a sequence in the cohort, by reason."""
    flags: Counter[str] = field(default_factory=Counter)
    """Number of images with a sequence, by flag."""
    estimated: Counter[int] = field(default_factory=Counter)
    """Number of cells whose band level was estimated, by level."""
    num_doubted: int = 0
    """Number of cells whose bands are not those of the stated level."""
    noted: list[pd.DataFrame] = field(default_factory=list)
    """Rows of the report."""
    seen: dict[bytes, str] = field(default_factory=dict)
    """See :func:`homnet.imaging.pairing.note_same_pixels`."""
    digests: dict[int, bytes] = field(default_factory=dict)
    """SHA-256 of the images by their rows."""

    @property
    def num_pairs(self) -> int:
        """Number of chromosomes with two usable homologs."""
        return self.cohort.num_pairs - self.num_single

    @property
    def num_left_out(self) -> int:
        """Number of images without a sequence in the cohort."""
        return self.reasons.total()

    def why_nothing(self) -> str:
        """The commonest reason, if no image was usable; of equal ones that with larger numbers."""
        rows = pd.concat(self.noted) if self.noted else pd.DataFrame({"reason": []})
        if rows.empty or (rows["reason"] == "").any():
            return ""
        kind, count = self.reasons.most_common(1)[0]
        reasons = rows["reason"][rows["reason"].str.startswith(kind)]
        reason = max(reasons, key=lambda text: [int(one) for one in re.findall(r"\d+", text)])
        return f"; {count} of {len(rows)} images: {reason}; all are listed in {self.report}"

    def pairs(self, part: pd.DataFrame, turn: Turn, *, by_row: bool) -> pa.Table:
        """The table of a part's pairs, all of one hospital, which are counted.

        Args:
            part: rows of the manifest with their measurements.
            turn: which chromosomes that lie upside down are turned.
            by_row: whether notes name images by their rows and not by their paths.
        """
        self.digests.update(zip(part["row"].tolist(), part["sha256"], strict=True))
        names = "row " + part["row"].astype(str) if by_row else part["path"]
        part = note_same_pixels(leave_out_wide(part), names, self.seen)
        if turn != "never":
            part = set_upright(part, on_karyogram=turn == "karyograms")
        part = set_band_levels(part)
        usable = part[part["reason"] == ""]
        # A reason starts with its kind; numbers may follow.
        kinds = part["reason"][part["reason"] != ""].str.split(r"[:(]", n=1, regex=True).str[0]
        self.reasons.update(kinds.str.strip())
        self.flags.update(flag for flags in usable["flags"] for flag in flags.split())
        cells = usable.drop_duplicates(CHROMOSOME_KEY[:3])
        self.estimated.update(cells["band_level"][cells["cell_flags"] == LEVEL_ESTIMATED].tolist())
        self.num_doubted += int((cells["cell_flags"] == LEVEL_DOUBTED).sum())
        unusual = part[(part[["reason", "flags", "note"]] != "").any(axis=1)]
        self.noted.append(unusual[_REPORTED])
        table = pair_up(part)
        flags = pc.struct_field(table["quality"], "flags")
        self.num_single += pc.sum(has_flag(flags, SINGLE_HOMOLOG)).as_py() or 0
        return table


def _refuse_published(output: Location) -> None:
    if is_published(output):
        raise CohortError(f"{output}: exists already; remove it or choose another --output")


def ingest(config: IngestConfig) -> IngestSummary:
    """Measures all images and writes the cohort and the report; karyograms are cut first.

    Raises:
        ManifestError: the manifest is invalid, or karyograms cannot be assigned to cells.
        DataError: no karyogram could be read.
        ConfigError: the pseudonym key is unreadable or too short.
        CohortError: the output exists, two hospitals share a patient id and there is no pseudonym
            key, or no image was usable; in the last case the report is still written.
        StoreError: a disk or store does not give an image.
    """
    key = read_secret_key(config.pseudonym_key_file, KEY_VARIABLE)
    _refuse_published(config.output)
    if config.manifest is not None:
        return _ingest(config, config.manifest, key)
    assert config.karyograms is not None
    chromosomes = config.output.with_name(f"{config.output.name}-chromosomes")
    pages = pages_of(config.karyograms, config.karyogram)
    if key is None:  # before pages are cut, each of which takes seconds
        refuse_shared_patients(
            (page["patient_id"], page["hospital"] or nfc(config.hospital)) for page in pages
        )
    with local_or_cluster():
        listed = cut_karyograms(config.karyograms, config.karyogram, chromosomes, pages=pages)
        return _ingest(config, listed, key)


def _ingest(config: IngestConfig, listed: Location, key: bytes | None) -> IngestSummary:
    """Measures the images of a manifest; ``key`` is that of the pseudonyms."""
    manifest = read_manifest(listed, hospital=config.hospital, band_level=config.band_level)
    turn = config.turn or ("images" if config.karyograms is None else "karyograms")
    settings = {**dataclasses.asdict(config), "turn": turn}
    for name in ("pseudonym_key_file", "output", "manifest", "karyograms", "karyogram"):
        del settings[name]
    reported = _REPORTED
    if key is None:  # pseudonyms differ between hospitals
        refuse_shared_patients(zip(manifest["patient_id"], manifest["hospital"], strict=True))
        settings["manifest"] = listed.name
    else:
        manifest = _with_pseudonyms(manifest, key)
        # Names of files often hold those of patients; the row leads back to the manifest.
        reported = [name for name in _REPORTED if name != "path"]
    done = IngestSummary(report_of(config.output), len(manifest))
    provenance: dict[str, Any] = {
        "job": "ingest",
        "version": __version__,
        "program": PROGRAM,
        "settings": settings,
        "manifest_sha256": hashlib.sha256(listed.read_bytes()).hexdigest(),
    }

    def tables() -> Iterator[pa.Table]:
        for part in _measured(manifest, listed, config):
            yield done.pairs(part, turn, by_row=key is not None)
        # The cohort's index is written after its last table, and only then is it published: nobody
        # may find it without its report.
        provenance["images_sha256"] = _digest_of_rows(done.digests)
        _refuse_published(config.output)  # by another run, whose report stands beside it
        noted = pd.concat(done.noted)[reported].sort_values("row")
        with replacing(done.report) as temporary:
            noted.to_csv(temporary, index=False, float_format="%.3f")

    try:
        with local_or_cluster():
            done.cohort = write_cohort(
                config.output,
                tables(),
                scale=dict.fromkeys(
                    sorted(manifest["hospital"].unique()), config.extraction.samples_per_px
                ),
                provenance=provenance,
            )
    except CohortError as error:
        raise CohortError(f"{error}{done.why_nothing()}") from None
    return done


def digest_of_images(rows: pd.DataFrame, folder: Location) -> str:
    """The digest of all images of a manifest, as the provenance of a cohort keeps it.

    Args:
        rows: output of :func:`homnet.imaging.manifest.read_manifest`.
        folder: folder of the manifest.

    Raises:
        StoreError: a disk or store does not give an image.
    """
    digests: dict[int, bytes] = {}
    with ThreadPoolExecutor() as pool, driver_bar(len(rows), "compare", "image") as bar:
        for at in range(0, len(rows), _IMAGES_PER_BLOCK):
            part = rows.iloc[at : at + _IMAGES_PER_BLOCK]
            found = pool.map(lambda path: _image(folder, path)[1], part["path"])
            digests.update(zip(part["row"].tolist(), found, strict=True))
            bar.update(len(part))
    return _digest_of_rows(digests)


def _digest_of_rows(digests: Mapping[int, bytes]) -> str:
    """One digest of those of all images, in the order of the manifest."""
    whole = hashlib.sha256()
    for row in sorted(digests):
        whole.update(f"{row}:{digests[row].hex()}\n".encode())
    return whole.hexdigest()


def _image(folder: Location, path: str) -> tuple[Source, bytes]:
    """An image of a manifest and its SHA-256, which is empty if there is no such file."""
    place = find_image(folder, path)
    try:
        content = read_content(place, MAX_BYTES)
    except FileNotFoundError:
        return place, b""
    return io.BytesIO(content), hashlib.sha256(content).digest()


def _measured(
    manifest: pd.DataFrame, listed: Location, config: IngestConfig
) -> Iterator[pd.DataFrame]:
    """The manifest with its measurements, in parts of whole patients of one hospital."""
    size = min(_IMAGES_PER_BLOCK, config.images_per_file)
    tables = [
        pa.Table.from_pandas(manifest.iloc[at : at + size], preserve_index=False)
        for at in range(0, len(manifest), size)
    ]
    data = ray.data.from_arrow(tables).map_batches(
        partial(_measure_block, folder=listed.absolute().parent, config=config.extraction),
        batch_size=None,
        batch_format="pyarrow",
    )
    # The manifest is sorted, so a patient's images are adjacent.
    data.context.execution_options.preserve_order = True
    waiting = pd.DataFrame()
    with driver_bar(len(manifest), "ingest", "image") as bar:
        for batch in data.iter_batches(batch_size=None, batch_format="pyarrow"):
            table = cast(pa.Table, batch)
            bar.update(table.num_rows)
            waiting = pd.concat([waiting, table.to_pandas()], ignore_index=True)
            if len(waiting) >= config.images_per_file:
                # The next block may have more images of the last patient.
                last = (waiting[_PERSON] == waiting[_PERSON].iloc[-1]).all(axis=1)
                for _, part in waiting[~last].groupby("hospital"):
                    yield part
                waiting = waiting[last]
    for _, part in waiting.groupby("hospital"):
        yield part


def _measure_block(table: pa.Table, *, folder: Location, config: ExtractionConfig) -> pa.Table:
    """Manifest rows with the measurements of each image and its SHA-256."""
    digests: list[bytes] = []

    def open_image(row: Mapping[str, Any]) -> Source:
        source, digest = _image(folder, row["path"])
        digests.append(digest)
        return source

    rows = measure_rows(table.to_pandas(), open_image, config)
    return pa.Table.from_pandas(rows.assign(sha256=digests), preserve_index=False)


def _with_pseudonyms(manifest: pd.DataFrame, key: bytes) -> pd.DataFrame:
    """The manifest with digests in place of the names of patients and cells, in their order.

    Raises:
        CohortError: two names have one digest.
    """
    names = [manifest[name].tolist() for name in CHROMOSOME_KEY[:3]]
    for num, column in ((2, "patient_id"), (3, "cell_id")):
        who = list(zip(*names[:num], strict=True))
        digests = {one: _pseudonym(key, *one) for one in set(who)}
        if len(set(digests.values())) < len(digests):
            raise CohortError(f"two values of {column} have one pseudonym; use another key")
        manifest = manifest.assign(**{column: [digests[one] for one in who]})
    return manifest.sort_values([*CHROMOSOME_KEY, "homolog"], ignore_index=True)


def _pseudonym(key: bytes, *names: str) -> str:
    """Keyed digest of the names."""
    return hmac.new(key, "\0".join(names).encode(), hashlib.sha256).hexdigest()[:16]
