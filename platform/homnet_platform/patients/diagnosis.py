"""Batch verdicts on patients, on a cluster.

Workers diagnose blocks of patients in parallel and write the results to shared storage. The same
command resumes an interrupted run.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from homnet.calibration.patients import NO_READER_USED
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.pairs import SCHEMA
from homnet.cohorts.split import SplitConfig, split_patients
from homnet.errors import CheckpointError, ConfigError, DataError
from homnet.files import Staging, is_published, write_whole
from homnet.imaging.extraction import ExtractionConfig
from homnet.imaging.manifest import read_manifest
from homnet.locations import Location, files_in, in_memory, to_location
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.model.shipped import SHIPPED, reader_beside
from homnet.patients.diagnostician import Diagnostician, verdicts_on_unseen
from homnet.patients.diagnostician import diagnose as diagnose_patients
from homnet.patients.pictures import with_pictures
from homnet.patients.tables import patient_table, type_table
from homnet.patients.verdict import PatientVerdict, VerdictConfig
from homnet.reader.network import ReaderConfig
from homnet.reader.reading import CalibratedReader
from homnet.report.patient_page import render_patient
from homnet.report.worklist import render_worklist
from homnet.results import write_json
from homnet_platform.blocks import process_blocks
from homnet_platform.ingest import IngestConfig, Turn, ingest, report_of
from homnet_platform.job import LocationOption
from homnet_platform.karyograms import KaryogramConfig, cut_karyograms
from homnet_platform.patients.blocks import PatientBlock, patient_blocks, read_block
from homnet_platform.patients.pictures import Pictures, pictures_of
from homnet_platform.runs import models_of, paths_of_models, portable
from homnet_platform.runtime import local_or_cluster

Pages = Literal["all", "flagged", "none"]
Who = Literal["all", "validation", "test"]


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
    hospital: str = "hospital"
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


def diagnose(config: DiagnoseConfig) -> Location:
    """Diagnoses all selected patients and returns the output directory.

    Raises:
        CohortError, CheckpointError, ConfigError, DataError: see their messages.
    """
    output = to_location(config.output).absolute()
    config = _with_manifest(config)
    cohort = _cohort(config)
    measured = set(cohort.scale)
    models = models_of(config.checkpoint, cohort.scale, config.hospitals)
    cohort = cohort.of_hospitals(models)
    checkpoints = {path: Checkpoint.load(path) for path in set(models.values())}
    findings = config.findings or reader_beside(config.checkpoint)
    reader = CalibratedReader.load(findings) if findings else None
    judges = {
        path: _diagnostician(path, one, config.verdict, reader) for path, one in checkpoints.items()
    }
    calibrations = {
        hospital: judges[path].calibration_of(hospital) for hospital, path in models.items()
    }
    nowhere = [name for name, one in calibrations.items() if one is None]
    if len(nowhere) == len(models):
        raise CheckpointError(
            f"{config.checkpoint}: not calibrated for whole patients, or was by another version; "
            "run jobs/diagnose.py calibrate first and give its output"
        )
    if nowhere:
        print(f"no calibration of patients: nobody of {', '.join(nowhere)} is assessed")
    # Patients that a model or the reader was trained on must not be measured with it.
    origins = [one.provenance for one in checkpoints.values()]
    if findings:
        origins.append(Checkpoint.load(findings, ReaderConfig.of_json).provenance)
    people = None
    if config.patients != "all":
        people = split_patients(cohort.patients, config.split)[config.patients]
    blocks = patient_blocks(cohort, people)
    pictures = _pictures(config, cohort)
    _require_file_names(patient for block in blocks for patient in block.patients)
    _require_file_names(patient for _, patient in pictures.sent)
    settings = {
        **portable(config),
        "manifest": None if config.manifest is None else config.manifest.name,
        "findings": reader.version if reader is not None else NO_READER_USED,
        "cohort": cohort.fingerprint,
        "models": {hospital: checkpoints[path].digest for hospital, path in models.items()},
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
                staging=staging,
                config=dataclasses.replace(
                    config,
                    findings=str(to_location(findings).absolute()) if findings else "",
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
            verdicts = verdicts_on_unseen(judges[path], hospital, unseen)
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
                    for hospital, one in calibrations.items()
                },
            },
        )
    counts = everyone["decision"].value_counts()
    staging.publish()
    for one in counts.to_pylist():
        print(f"{one['counts']:6d} {one['values'].replace('_', ' ')}")
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


def _require_file_names(patients: Iterable[str]) -> None:
    """Checks that patient ids, which name the pages, are valid in file names and links.

    Raises:
        DataError: one is not.
    """
    for patient in patients:
        if not re.fullmatch(r"[\w-][\w.-]*", patient):
            raise DataError(
                f"patient_id {patient!r} is not a valid page name; use letters, digits, '.', '_' "
                "and '-' only, or let ingest make pseudonyms"
            )


def _with_manifest(config: DiagnoseConfig) -> DiagnoseConfig:
    """Cuts karyograms, if there are any, and gives the manifest of what was cut out instead.

    Raises:
        ConfigError: a manifest is given as well.
    """
    if config.karyograms is None:
        if config.manifest is None and config.turn is not None:
            raise ConfigError("--turn is for images; the chromosomes of a cohort are not turned")
        return config
    if config.manifest is not None:
        raise ConfigError("give either --manifest or --karyograms")
    output = to_location(config.output)
    chromosomes = output.with_name(f"{output.name}-chromosomes")
    with local_or_cluster():
        manifest = cut_karyograms(config.karyograms, config.karyogram, chromosomes)
    turn: Turn = config.turn or "karyograms"
    return dataclasses.replace(config, manifest=manifest, turn=turn)


def _cohort(config: DiagnoseConfig) -> Cohort:
    """The cohort to diagnose; measures images first unless an earlier run did."""
    if config.manifest is None:
        return Cohort.open(config.cohort)
    output = to_location(config.output)
    measured = output.with_name(f"{output.name}-cohort")
    scale, turn = _scale(config, config.manifest), config.turn or "images"
    if not is_published(measured):
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
    if made["manifest_sha256"] != digest or found != wanted:
        raise ConfigError(
            f"{measured} was measured from another manifest, or with another hospital, band_level, "
            "turn or samples_per_px; remove it, or choose another --output"
        )
    return cohort


def _scale(config: DiagnoseConfig, manifest: Location) -> float:
    """Samples per image pixel at which a manifest's images are measured.

    Raises:
        CheckpointError: a model has another scale than the one that was given.
        ConfigError: the models have several scales.
        DataError: a patient's name cannot name a page.
        ManifestError: the manifest is invalid.
    """
    rows = read_manifest(manifest, hospital=config.hospital, band_level=config.band_level)
    _require_file_names(rows["patient_id"].unique())
    models = paths_of_models(config.checkpoint, sorted(set(rows["hospital"])), config.hospitals)
    given = config.samples_per_px
    scales = set()
    for hospital, path in models.items():
        checkpoint = Checkpoint.load(path)
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
    judge, predictor, reader = _loaded(models[hospital], config.verdict, config.findings)
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


@cache
def _loaded(
    path: Location, verdict: VerdictConfig, findings: str
) -> tuple[Diagnostician, Predictor, CalibratedReader | None]:
    """Model and reader, loaded once per process."""
    reader = CalibratedReader.load(findings) if findings else None
    checkpoint = Checkpoint.load(path)
    return (
        _diagnostician(path, checkpoint, verdict, reader),
        Predictor.of_checkpoint(checkpoint),
        reader,
    )


def _diagnostician(
    path: Location, checkpoint: Checkpoint, verdict: VerdictConfig, reader: CalibratedReader | None
) -> Diagnostician:
    version = NO_READER_USED if reader is None else reader.version
    try:
        return Diagnostician(checkpoint, verdict, reader=version)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
