"""Batch verdicts on patients, on a cluster.

Workers diagnose blocks of patients in parallel and write the results to shared storage. The same
command resumes an interrupted run.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from homnet import PROGRAM
from homnet.cohorts.cohort import Cohort, refuse_shared_patients
from homnet.cohorts.pairs import SCHEMA
from homnet.cohorts.split import SplitConfig, split_patients
from homnet.errors import ConfigError, DataError
from homnet.files import Staging, is_published, write_whole
from homnet.imaging.extraction import ExtractionConfig
from homnet.imaging.manifest import nfc, read_manifest
from homnet.locations import Location, files_in, in_memory, to_location
from homnet.model.shipped import SHIPPED, reader_beside
from homnet.patients.diagnostician import diagnose as diagnose_patients
from homnet.patients.diagnostician import verdicts_on_unseen
from homnet.patients.pictures import with_pictures
from homnet.patients.tables import patient_table, type_table
from homnet.patients.verdict import PatientVerdict, VerdictConfig
from homnet.report.patient_page import render_patient
from homnet.report.worklist import render_worklist
from homnet.results import write_json
from homnet.secret_key import read_secret_key
from homnet_platform.blocks import process_blocks
from homnet_platform.ingest import (
    KEY_VARIABLE,
    IngestConfig,
    Turn,
    digest_of_images,
    ingest,
    report_of,
    require_defaults,
)
from homnet_platform.job import LocationOption
from homnet_platform.karyograms import KaryogramConfig, cut_karyograms, pages_of
from homnet_platform.patients.blocks import PatientBlock, patient_blocks, read_block
from homnet_platform.patients.models import load_models, loaded_once
from homnet_platform.patients.pictures import Pictures, pictures_of
from homnet_platform.runs import models_of, paths_of_models, portable
from homnet_platform.runtime import local_or_cluster

Pages = Literal["all", "flagged", "none"]
Who = Literal["all", "validation", "test"]
_HOSPITAL: Final = "hospital"
_MAX_ID_BYTES: Final = 200
"""Longest patient id: a file system takes 255 bytes, and temporary names are longer."""


@dataclass(frozen=True)
class DiagnoseConfig:
    """Verdicts and reports on the patients of a cohort, or of a folder of images."""

    cohort: str = "cohorts/simulated"
    """Cohort directory; any truth in it is ignored."""
    manifest: LocationOption | None = None
    """Manifest (CSV) of a folder of chromosome images, instead of a cohort. The measurements are
    kept as the cohort ``<output>-cohort``."""
    karyograms: LocationOption | None = None
    """Folder or URI of karyograms, instead of a cohort. What is cut out of them is kept in
    ``<output>-chromosomes``, the measurements in ``<output>-cohort``."""
    karyogram: KaryogramConfig = field(default_factory=KaryogramConfig)
    """Names, layout and scale of karyograms."""
    hospital: str = _HOSPITAL
    """Hospital of images and karyograms that name none."""
    band_level: int | None = None
    """Band level of cells for which the manifest states none; by default estimated from their
    chromosomes."""
    turn: Turn | None = None
    """Which chromosomes that lie upside down are turned, as in ``jobs/ingest.py``."""
    samples_per_px: float | None = None
    """Scale at which the images of the manifest are measured; None takes that of the model."""
    checkpoint: str = SHIPPED
    """Output of ``calibrate``, or one calibrated checkpoint; by default the model that comes with
    the package, which simulated people taught."""
    findings: str = ""
    """Checkpoint of a reader; by default the one that was calibrated with the model. Without one,
    kind and place are not assessed."""
    output: str = "runs/diagnose"
    """Directory for index.html (the list), patients.parquet, types.parquet, and ``patients`` with
    a JSON file and page per patient."""
    hospitals: tuple[str, ...] = ()
    """Hospitals to diagnose; by default those that have a model."""
    patients: Who = "all"
    """All patients, or those of one part of the split (for measurement)."""
    split: SplitConfig = SplitConfig(validation=0.08, test=0.8)
    """The split that ``patients`` refers to."""
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    """Caution of the verdicts, and the laboratory's prevalence."""
    pages: Pages = "all"
    """Patients to write pages for: all, those with an abnormal or unassessed result, or none."""

    def __post_init__(self) -> None:
        require_defaults(self.hospital, self.band_level)
        if self.karyograms is not None:
            return
        if self.karyogram != KaryogramConfig():
            raise ConfigError("--karyogram.* is for --karyograms; remove it")
        if self.manifest is None:
            for given, message in (
                (self.turn, "--turn is for images; the chromosomes of a cohort are not turned"),
                (self.band_level, "--band-level is for images; a cohort has band levels"),
                (self.samples_per_px, "--samples-per-px is for images; a cohort is measured"),
            ):
                if given is not None:
                    raise ConfigError(message)
            if self.hospital != _HOSPITAL:
                raise ConfigError(
                    "--hospital is for images that name none; --hospitals selects those of a cohort"
                )


def diagnose(config: DiagnoseConfig) -> Location:
    """Diagnoses all selected patients and returns the output directory.

    Raises:
        CohortError, CheckpointError, ConfigError, DataError, StoreError: see their messages.
    """
    output = to_location(config.output).absolute()
    if is_published(output):
        raise DataError(f"{output}: exists already; remove it or choose another --output")
    config = _with_manifest(config)
    cohort = _cohort(config)
    measured = set(cohort.scale)
    loaded = load_models(
        config.checkpoint,
        config.findings,
        config.verdict,
        models_of(config.checkpoint, cohort.scale, config.hospitals),
    )
    models, reader = loaded.paths, loaded.reader
    cohort = cohort.of_hospitals(models)
    nowhere = [name for name, one in loaded.calibrations.items() if one is None]
    if nowhere:
        print(f"no calibration of patients: nobody of {', '.join(nowhere)} is assessed")
    # Patients that a model or the reader was trained on must not be measured with it.
    origins = [one.provenance for one in loaded.checkpoints.values()]
    if reader is not None:
        origins.append(reader.provenance)
    people = None
    if config.patients != "all":
        people = split_patients(cohort.patients, config.split)[config.patients]
    blocks = patient_blocks(cohort, people)
    pictures = _pictures(config, cohort)
    selected = {
        (cohort.files[block.file].hospital, patient)
        for block in blocks
        for patient in block.patients
    }
    _require_file_names(selected | pictures.sent.keys())
    settings = {
        **portable(config),
        "manifest": None if config.manifest is None else config.manifest.name,
        "findings": loaded.reader_version,
        "reader": None if reader is None else reader.digest,
        "cohort": cohort.fingerprint,
        "images": cohort.provenance.get("images_sha256"),
        "models": {hospital: loaded.checkpoints[path].digest for hospital, path in models.items()},
    }
    staging = Staging(output)
    staging.claim(settings)
    with local_or_cluster():
        process_blocks(
            len(blocks),
            partial(
                _diagnose_block,
                cohort=cohort,
                blocks=blocks,
                models=models,
                digests=loaded.digests,
                staging=staging,
                config=dataclasses.replace(
                    config,
                    findings=loaded.findings,
                    manifest=None if config.manifest is None else config.manifest.absolute(),
                ),
            ),
            title="diagnose",
            total=sum(len(block.patients) for block in blocks),
            unit=" patients",
        )
    names = [f"blocks/{number:05d}" for number in range(len(blocks))]
    unmeasured = {where for where, _ in pictures.sent} - measured
    for where in sorted(unmeasured & set(config.hospitals or unmeasured)):
        print(f"no picture of {where} could be used: none of its patients is in the list")
    for hospital, path in models.items():
        unseen = sorted(
            who
            for where, who in pictures.sent
            if where == hospital
            and who not in cohort.patients[hospital]
            and (people is None or who in people)
        )
        if unseen:
            names.append(f"blocks/unseen-{hospital}")
            verdicts = verdicts_on_unseen(loaded.judges[path], hospital, unseen)
            _write_patients(names[-1], verdicts, SCHEMA.empty_table(), cohort, staging, config)
    for table in ("patients", "types"):
        parts = [
            pq.read_table(in_memory(staging.content / f"{name}-{table}.parquet")) for name in names
        ]
        with staging.writing(f"{table}.parquet") as temporary:
            pq.write_table(pa.concat_tables(parts), temporary)
    everyone = pq.read_table(in_memory(staging.content / "patients.parquet"))
    pages = {
        f"patients/{path}"
        for path in files_in(staging.content / "patients", recursive=True)
        if path.endswith(".html")
    }
    with staging.writing("index.html") as temporary:
        refused = {who: sum(bool(one.refused) for one in of) for who, of in pictures.sent.items()}
        write_whole(temporary, render_worklist(everyone, pages, refused))
    with staging.writing("provenance.json") as temporary:
        write_json(
            temporary,
            {
                **settings,
                "known": {
                    use: sorted({patient for origin in origins for patient in origin.get(use, ())})
                    for use in ("learnt_from", "validated_on", "calibrated_on")
                },
                "calibrations": {
                    hospital: None if one is None else one.to_json()
                    for hospital, one in loaded.calibrations.items()
                },
            },
        )
    counts = everyone["decision"].value_counts()
    staging.publish()
    for one in counts.to_pylist():
        print(f"{one['counts']:6d} {one['values'].replace('_', ' ')}")
    if config.checkpoint == SHIPPED:
        print(
            "the model of the package has learnt from simulated people only: on real ones its "
            "verdicts are a trial"
        )
    print(f"verdicts: {config.output}")
    return to_location(config.output)


def facts(config: Any) -> Mapping[str, object]:
    """Extra lines of a dry run, which does not read the cohort."""
    if isinstance(config, DiagnoseConfig):
        return {
            "kind and place": "read"
            if config.findings or reader_beside(config.checkpoint)
            else "not assessed (no reader)"
        }
    return {}


def _require_file_names(people: Iterable[tuple[str, str]]) -> None:
    """Checks that patient ids, which name the pages, are valid in file names and links.

    Args:
        people: hospital and patient id.

    Raises:
        DataError: one is not, is too long, or differs from another in upper and lower case only.
    """
    seen: dict[tuple[str, str], str] = {}
    for hospital, patient in sorted(set(people)):
        if not re.fullmatch(r"[\w-][\w.-]*", patient):
            raise DataError(
                f"patient_id {patient!r} is not a valid page name; use letters, digits, '.', '_' "
                "and '-' only, or let ingest make pseudonyms"
            )
        if (size := len(patient.encode())) > _MAX_ID_BYTES:
            raise DataError(
                f"patient_id '{patient[:20]}...' has {size} bytes, and the name of a page at most "
                f"{_MAX_ID_BYTES}; shorten it, or let ingest make pseudonyms"
            )
        other = seen.setdefault((hospital.casefold(), patient.casefold()), patient)
        if other != patient:
            raise DataError(
                f"patient_id {other!r} and {patient!r} of hospital '{hospital}' differ in upper "
                "and lower case only, and many disks take their pages for one; rename one of them, "
                "or let ingest make pseudonyms"
            )


def _with_manifest(config: DiagnoseConfig) -> DiagnoseConfig:
    """Cuts karyograms, if there are any, and gives the manifest of what was cut out instead.

    Raises:
        ConfigError: a manifest is given as well.
    """
    if config.karyograms is None:
        return config
    if config.manifest is not None:
        raise ConfigError("give either --manifest or --karyograms")
    output = to_location(config.output)
    chromosomes = output.with_name(f"{output.name}-chromosomes")
    # Cutting takes seconds for each page: what can be refused is refused before.
    pages = pages_of(config.karyograms, config.karyogram)
    people = [(page["hospital"] or nfc(config.hospital), page["patient_id"]) for page in pages]
    if read_secret_key(None, KEY_VARIABLE) is None:
        refuse_shared_patients((patient, hospital) for hospital, patient in people)
    _scale(config, people)
    with local_or_cluster():
        manifest = cut_karyograms(
            config.karyograms,
            config.karyogram,
            chromosomes,
            pages=pages,
            made_of_it=_made_of_images(config),
        )
    turn: Turn = config.turn or "karyograms"
    return dataclasses.replace(config, manifest=manifest, turn=turn)


def _made_of_images(config: DiagnoseConfig) -> tuple[Location, Location, Location]:
    """The cohort that is measured from images, its report, and unfinished verdicts."""
    output = to_location(config.output)
    measured = output.with_name(f"{output.name}-cohort")
    return measured, report_of(measured), Staging(output).root


def _cohort(config: DiagnoseConfig) -> Cohort:
    """The cohort to diagnose; measures images first unless an earlier run did."""
    if config.manifest is None:
        return Cohort.open(config.cohort)
    made_of_images = _made_of_images(config)
    measured = made_of_images[0]
    rows = read_manifest(config.manifest, hospital=config.hospital, band_level=config.band_level)
    scale = _scale(config, zip(rows["hospital"], rows["patient_id"], strict=True))
    turn = config.turn or "images"
    earlier = is_published(measured)
    if not earlier:
        ingest(
            IngestConfig(
                manifest=config.manifest,
                output=measured,
                hospital=config.hospital,
                band_level=config.band_level,
                turn=turn,
                extraction=ExtractionConfig(samples_per_px=scale),
            )
        )
    cohort = Cohort.open(measured)
    made = cohort.provenance
    digest = hashlib.sha256(config.manifest.read_bytes()).hexdigest()
    settings = made["settings"]
    found = [settings[name] for name in ("hospital", "band_level", "turn")]
    found.append(settings["extraction"]["samples_per_px"])
    wanted = [config.hospital, config.band_level, turn, scale]
    # The manifest's name is left out of a pseudonymous cohort.
    has_pseudonyms = "manifest" not in settings
    if (
        made["manifest_sha256"] != digest
        or made.get("program") != PROGRAM
        or has_pseudonyms != (read_secret_key(None, KEY_VARIABLE) is not None)
        or found != wanted
        # A picture may change under its name.
        or (earlier and made.get("images_sha256") != digest_of_images(rows, config.manifest.parent))
    ):
        old = [str(one) for one in made_of_images if one.exists()]
        raise ConfigError(
            f"{measured} was measured from another manifest or other images, by another version, "
            "or with another hospital, band_level, turn, samples_per_px or (no) pseudonym key; "
            f"remove {' and '.join(old)}, or choose another --output"
        )
    return cohort


def _scale(config: DiagnoseConfig, people: Iterable[tuple[str, str]]) -> float:
    """Samples per image pixel at which images are measured; checks names and models before.

    Args:
        config: with the models.
        people: hospital and patient id.

    Raises:
        CheckpointError: a model is missing or not calibrated, or has another scale than the one
            that was given.
        ConfigError: the models have several scales.
        DataError: a patient's name cannot name a page.
    """
    people = set(people)
    _require_file_names(people)
    hospitals = sorted({hospital for hospital, _ in people})
    models = paths_of_models(config.checkpoint, hospitals, config.hospitals)
    loaded = load_models(config.checkpoint, config.findings, config.verdict, models)
    given = config.samples_per_px
    scales = set()
    for hospital, path in models.items():
        checkpoint = loaded.checkpoints[path]
        if given is not None:
            checkpoint.require_scale({hospital: given}, str(path))
        scales.add(checkpoint.scale_of(hospital) or ExtractionConfig().samples_per_px)
    if given is None and len(scales) > 1:
        raise ConfigError(
            f"the models of {', '.join(models)} have several scales ({sorted(scales)} samples per "
            "image pixel); diagnose one hospital at a time"
        )
    return scales.pop() if given is None else given


def _diagnose_block(
    number: int,
    *,
    cohort: Cohort,
    blocks: Sequence[PatientBlock],
    models: Mapping[str, Location],
    digests: Mapping[str, str],
    staging: Staging,
    config: DiagnoseConfig,
) -> tuple[int, str]:
    """Diagnoses the patients of a block and writes their results."""
    people = blocks[number].patients
    name = f"blocks/{number:05d}"
    # Written last: its presence means that the block is complete.
    if (staging.content / f"{name}-types.parquet").exists():
        return len(people), ""
    table = read_block(cohort, blocks[number])
    hospital = cohort.files[blocks[number].file].hospital
    path, findings = models[hospital], config.findings
    judge, predictor, reader = loaded_once(
        path, digests[str(path)], config.verdict, findings, digests.get(findings, "")
    )
    verdicts = diagnose_patients(judge, predictor, table, reader)
    _write_patients(name, verdicts, table, cohort, staging, config)
    return len(people), ""


def _write_patients(
    name: str,
    verdicts: Sequence[PatientVerdict],
    table: pa.Table,
    cohort: Cohort,
    staging: Staging,
    config: DiagnoseConfig,
) -> None:
    """Writes the files of some patients, and the two tables of them whose names begin so."""
    pictures = _pictures(config, cohort)
    verdicts = [
        with_pictures(one, pictures.sent.get((one.hospital, one.patient_id), ()))
        for one in verdicts
    ]
    for verdict in verdicts:
        patient = verdict.hospital, verdict.patient_id
        place = f"patients/{verdict.hospital}/{verdict.patient_id}"
        with staging.writing(f"{place}.json") as temporary:
            write_json(temporary, verdict.to_json())
        unclear = verdict.decision != "no_abnormality_found"
        if config.pages == "all" or (config.pages == "flagged" and unclear):
            page = render_patient(
                verdict,
                table,
                samples_per_px=cohort.scale[verdict.hospital],
                images=pictures.images(*patient),
                sent=pictures.sent.get(patient, ()),
            )
            with staging.writing(f"{place}.html") as temporary:
                write_whole(temporary, page)
    for kind, rows in (("patients", patient_table(verdicts)), ("types", type_table(verdicts))):
        with staging.writing(f"{name}-{kind}.parquet") as temporary:
            pq.write_table(rows, temporary)


def _pictures(config: DiagnoseConfig, cohort: Cohort) -> Pictures:
    """The patients' pictures; none if verdicts are given on a cohort."""
    # With pseudonyms the names of the pictures are no longer those of the patients.
    if config.manifest is None or "manifest" not in cohort.provenance["settings"]:
        return Pictures({}, {})
    return pictures_of(
        config.manifest,
        config.hospital,
        config.band_level,
        report_of(cohort.root),
        cut=config.karyograms is not None,
    )
