"""Verdicts on patients in batch: calibration, diagnosis and measurement on a cluster.

Blocks of patients are diagnosed in parallel; a worker writes what it finds on its patients to
shared storage. A run that was killed continues with the same command.
"""

import dataclasses
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, Literal, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from homnet.checkpoint import Checkpoint, patient_digests
from homnet.cohort import Cohort
from homnet.diagnosing import Diagnostician, labelled_scores, score_patients
from homnet.errors import CheckpointError, ConfigError, DataError
from homnet.finding import FindingReader
from homnet.joint import JointModel
from homnet.patient_calibration import (
    ALL_HOSPITALS,
    SPECIFICITY,
    LabelledScores,
    PatientCalibration,
    fit_hospitals,
)
from homnet.patient_tables import patient_table, type_table
from homnet.patient_verdict import PatientVerdict, VerdictConfig
from homnet.predictor import Predictor
from homnet.registry import Registry
from homnet.report.html import write_page
from homnet.report.patient_page import render_patient
from homnet.report.worklist import render_worklist
from homnet.results import write_json
from homnet.split import TEST, VALIDATION, SplitConfig, split_patients
from homnet.staging import Staging
from homnet_platform.blocks import process_blocks
from homnet_platform.evaluation import models_of, refuse_known
from homnet_platform.ingest import IngestConfig, ingest
from homnet_platform.pretraining import portable
from homnet_platform.runtime import local_or_cluster

Pages = Literal["all", "flagged", "none"]
Who = Literal["all", "validation", "test"]
_PATIENTS_PER_BLOCK: Final = 20
"""A minute of work with pages: little enough to lose when a worker dies."""


@dataclass(frozen=True)
class CalibrateConfig:
    """Thresholds, temperatures and priors of whole patients, from validation patients."""

    cohort: str = "cohorts/simulated"
    """Cohort with truth. Specificity is that on its healthy referrals: the patients of each
    hospital without an abnormal pair. For a specificity of 0.99 each hospital needs 99 of them
    among its validation patients; with fewer the threshold lies above all of them, and the output
    says what they can support."""
    checkpoint: str = "runs/fine_tune"
    """A checkpoint, or the output of fine-tuning: then each hospital is scored by its own model."""
    output: str = "runs/calibrate"
    """Directory that gets one calibrated checkpoint per hospital."""
    hospitals: tuple[str, ...] = ()
    """Hospitals to calibrate; by default those that have a model."""
    split: SplitConfig = SplitConfig(validation=0.08, test=0.8)
    """Whose validation patients are used. Who was learnt from is refused."""
    specificity: float = SPECIFICITY
    """Share of healthy referrals to be called normal."""
    min_cells: int = 2
    """Cells that a type needs to be counted."""
    min_patients: int = 5
    """Fewest healthy referrals, and fewest carriers, for a hospital's own calibration; with fewer
    it takes that of all hospitals together."""
    leave_out: bool = False
    """Calibrate each hospital on the patients of all others: what it meets before it has labels."""
    registry: str = ""
    """Registry that gets every calibrated model as a candidate of its hospital, if one is named."""

    def __post_init__(self) -> None:
        """Refuses what cannot be."""
        if not 0 < self.specificity < 1:
            raise ConfigError(f"specificity is {self.specificity}; give a share below 1")
        if self.min_cells < 1:
            raise ConfigError(f"min_cells is {self.min_cells}; give at least 1")


@dataclass(frozen=True)
class DiagnoseConfig:
    """Verdicts and reports on the patients of a cohort, or of a folder of images."""

    cohort: str = "cohorts/simulated"
    """Cohort directory; its truth, if it has any, is not looked at."""
    manifest: Path | None = None
    """Manifest (CSV) of a folder of chromosome images, instead of a cohort. What is measured on the
    images is kept as the cohort ``<output>-cohort``."""
    hospital: str = "hospital"
    """Hospital of rows of the manifest that name none."""
    band_level: int = 550
    """Band level of rows of the manifest that state none."""
    checkpoint: str = "runs/calibrate"
    """Output of ``calibrate``, or one calibrated checkpoint."""
    findings: str = ""
    """Checkpoint of a reader of findings; without one, kind and place are not assessed."""
    output: str = "runs/diagnose"
    """Directory of index.html (the list), patients.parquet, types.parquet, and in ``patients`` JSON
    and page of everyone."""
    hospitals: tuple[str, ...] = ()
    """Hospitals to diagnose; by default those that have a model."""
    patients: Who = "all"
    """All patients, or those of one part of the split, to measure on."""
    split: SplitConfig = SplitConfig(validation=0.08, test=0.8)
    """The split whose part is meant."""
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    """How careful verdicts are, and the laboratory's prevalence."""
    pages: Pages = "all"
    """Whose pages are written: of all patients, of those with something to see or to explain
    (abnormal or not assessed), or of nobody."""


def calibrate(config: CalibrateConfig) -> dict[str, Path]:
    """Calibrates for whole patients; gives the new checkpoints by hospital.

    Raises:
        CohortError, CheckpointError, ConfigError, DataError: see their messages.
    """
    cohort = Cohort.open(config.cohort)
    models = models_of(
        Path(config.checkpoint), config.hospitals or cohort.hospitals, config.hospitals
    )
    cohort = cohort.of_hospitals(models)
    split = split_patients(cohort.patients, config.split)
    for path in set(models.values()):
        refuse_known(path, split[VALIDATION], "learnt_from")
    blocks = _blocks(cohort, split[VALIDATION])
    with local_or_cluster():
        texts = process_blocks(
            len(blocks),
            partial(_score_block, cohort=_absolute(cohort), blocks=blocks, models=_paths(models)),
            title="calibrate",
            total=len(split[VALIDATION]),
            unit=" patients",
        )
    # Ray Data carries texts; logits of a thousand patients are a few megabytes.
    scores = LabelledScores.concatenate([LabelledScores.from_json(json.loads(t)) for t in texts])
    found = fit_hospitals(
        scores,
        min_cells=config.min_cells,
        specificity=config.specificity,
        min_patients=config.min_patients,
        leave_out=config.leave_out,
    )
    published = {}
    for hospital, path in models.items():
        checkpoint = Checkpoint.load(path)
        provenance = {
            **checkpoint.provenance,
            "calibrated_on": patient_digests(split[VALIDATION]),
            "calibration": {"cohort": cohort.fingerprint, "config": portable(config)},
        }
        calibrated = dataclasses.replace(
            checkpoint,
            patients={
                hospital: found.get(hospital, found[ALL_HOSPITALS]),
                ALL_HOSPITALS: found[ALL_HOSPITALS],
            },
            provenance=provenance,
        )
        published[hospital] = calibrated.save(Path(config.output) / hospital / "checkpoint")
        if config.registry:
            Registry(config.registry).publish(calibrated, hospital)
    print(_calibration_lines({h: found.get(h, found[ALL_HOSPITALS]) for h in models}))
    print(f"calibrated checkpoints: {config.output}")
    return published


def diagnose(config: DiagnoseConfig) -> Path:
    """Diagnoses everybody, and gives the output directory.

    Raises:
        CohortError, CheckpointError, ConfigError, DataError: see their messages.
    """
    output = Path(config.output).absolute()
    cohort = _cohort(config)
    models = models_of(
        Path(config.checkpoint), config.hospitals or cohort.hospitals, config.hospitals
    )
    cohort = cohort.of_hospitals(models)
    checkpoints = {path: Checkpoint.load(path) for path in set(models.values())}
    for hospital, path in models.items():
        Diagnostician(checkpoints[path], config.verdict).calibration_of(hospital)
    reader = _reader(config.findings) if config.findings else None
    people = None
    if config.patients != "all":
        part = VALIDATION if config.patients == "validation" else TEST
        people = split_patients(cohort.patients, config.split)[part]
    blocks = _blocks(cohort, people)
    settings = {
        **portable(config),
        "manifest": None if config.manifest is None else config.manifest.name,
        "findings": reader.version if reader is not None else "none",
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
                cohort=_absolute(cohort),
                blocks=blocks,
                models=_paths(models),
                staging=staging,
                config=dataclasses.replace(
                    config,
                    findings=str(Path(config.findings).absolute()) if config.findings else "",
                ),
            ),
            title="diagnose",
            total=sum(len(people) for _, people in blocks),
            unit=" patients",
        )
    names = [f"blocks/{number:05d}" for number in range(len(blocks))]
    for table in ("patients", "types"):
        parts = [pq.read_table(staging.content / f"{name}-{table}.parquet") for name in names]
        with staging.writing(f"{table}.parquet") as temporary:
            pq.write_table(pa.concat_tables(parts), temporary)
    everyone = pq.read_table(staging.content / "patients.parquet")
    pages = {
        path.relative_to(staging.content).as_posix()
        for path in staging.content.glob("patients/*/*.html")
    }
    with staging.writing("index.html") as temporary:
        write_page(temporary, render_worklist(everyone, pages))
    with staging.writing("provenance.json") as temporary:
        write_json(
            temporary,
            {
                **settings,
                "known": {
                    use: sorted(
                        {p for one in checkpoints.values() for p in one.provenance.get(use, ())}
                    )
                    for use in ("learnt_from", "validated_on", "calibrated_on")
                },
                "calibrations": {
                    hospital: Diagnostician(checkpoints[path]).calibration_of(hospital).to_json()
                    for hospital, path in models.items()
                },
            },
        )
    counts = everyone["decision"].value_counts()
    staging.publish()
    for one in counts.to_pylist():
        print(f"{one['counts']:6d} {one['values'].replace('_', ' ')}")
    print(f"verdicts: {config.output}")
    return Path(config.output)


def facts(config: Any) -> Mapping[str, object]:
    """What a dry run says beside the config: nothing that would need the cohort."""
    if isinstance(config, DiagnoseConfig):
        return {"kind and place": "read" if config.findings else "not assessed (no --findings)"}
    return {}


def _cohort(config: DiagnoseConfig) -> Cohort:
    """The cohort to diagnose; images are measured first, unless an earlier run did."""
    if config.manifest is None:
        return Cohort.open(config.cohort)
    output = Path(config.output)
    measured = output.with_name(f"{output.name}-cohort")
    if not measured.exists():
        ingest(
            IngestConfig(
                manifest=config.manifest,
                output=measured,
                hospital=config.hospital,
                band_level=config.band_level,
            )
        )
    return Cohort.open(measured)


def _blocks(cohort: Cohort, patients: frozenset[str] | None) -> list[tuple[int, tuple[str, ...]]]:
    """Runs of patients of one file each: the file's number and their names."""
    found = []
    for number, entry in enumerate(cohort.files):
        own = [name for name in entry.patients if patients is None or name in patients]
        found += [
            (number, tuple(own[start : start + _PATIENTS_PER_BLOCK]))
            for start in range(0, len(own), _PATIENTS_PER_BLOCK)
        ]
    if not found:
        raise DataError(f"{cohort.root}: nobody to look at; choose other hospitals or patients")
    return found


def _read(cohort: Cohort, block: tuple[int, tuple[str, ...]]) -> pa.Table:
    number, people = block
    table = cohort.read(cohort.files[number])
    return table.filter(pc.is_in(table["patient_id"], pa.array(people)))


def _score_block(
    number: int,
    *,
    cohort: Cohort,
    blocks: Sequence[tuple[int, tuple[str, ...]]],
    models: Mapping[str, str],
) -> tuple[int, str]:
    """Scores and truth of the patients of a block, as JSON."""
    table = _read(cohort, blocks[number])
    model = _model(models[cohort.files[blocks[number][0]].hospital])
    scores = labelled_scores(score_patients(model, table), table)
    return len(blocks[number][1]), json.dumps(scores.to_json())


def _diagnose_block(
    number: int,
    *,
    cohort: Cohort,
    blocks: Sequence[tuple[int, tuple[str, ...]]],
    models: Mapping[str, str],
    staging: Staging,
    config: DiagnoseConfig,
) -> tuple[int, str]:
    """Diagnoses the patients of a block and writes what there is to say of them."""
    people = blocks[number][1]
    name = f"blocks/{number:05d}"
    # Written last: where it is, the block is whole.
    if (staging.content / f"{name}-types.parquet").exists():
        return len(people), ""
    table = _read(cohort, blocks[number])
    hospital = cohort.files[blocks[number][0]].hospital
    judge = _diagnostician(models[hospital], config.verdict, config.findings)
    verdicts = judge(table)
    for verdict in verdicts:
        place = f"patients/{verdict.hospital}/{verdict.patient_id}"
        with staging.writing(f"{place}.json") as temporary:
            write_json(temporary, verdict.to_json())
        if _has_page(verdict, config.pages):
            page = render_patient(verdict, table, samples_per_px=cohort.scale[hospital])
            with staging.writing(f"{place}.html") as temporary:
                write_page(temporary, page)
    for kind, rows in (("patients", patient_table(verdicts)), ("types", type_table(verdicts))):
        with staging.writing(f"{name}-{kind}.parquet") as temporary:
            pq.write_table(rows, temporary)
    return len(people), ""


def _has_page(verdict: PatientVerdict, pages: Pages) -> bool:
    return pages == "all" or (pages == "flagged" and verdict.decision != "no_abnormality_found")


@cache
def _model(path: str) -> JointModel:
    """A model, once for each process."""
    return JointModel(Predictor.load(path))


@cache
def _diagnostician(path: str, verdict: VerdictConfig, findings: str) -> Diagnostician:
    """Model and reader, once for each process."""
    try:
        return Diagnostician(
            Checkpoint.load(path), verdict, _reader(findings) if findings else None
        )
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _reader(path: str) -> FindingReader:
    """The reader of findings that lies at a path."""
    reading = importlib.import_module("homnet.reader.reading")
    return cast(FindingReader, reading.FindingsReader.load(path))


def _absolute(cohort: Cohort) -> Cohort:
    """The same cohort, wherever a worker is started."""
    return dataclasses.replace(cohort, root=cohort.root.absolute())


def _paths(models: Mapping[str, Path]) -> dict[str, str]:
    return {hospital: str(path.absolute()) for hospital, path in models.items()}


def _calibration_lines(found: Mapping[str, PatientCalibration]) -> str:
    """What was found, as lines of text."""
    lines = [
        f"{'hospital':14}{'healthy':>9}{'carriers':>9}{'threshold':>10}{'specificity':>12}"
        f"{'supported':>11}{'temperature':>12}  fitted on"
    ]
    for hospital, one in found.items():
        lines.append(
            f"{hospital:14}{one.num_normal:>9}{one.num_abnormal:>9}{one.threshold:>10.2f}"
            f"{one.specificity:>12.3f}{one.supported_specificity:>11.3f}"
            f"{one.type_scale.temperature:>12.2f}  {', '.join(one.hospitals)}"
        )
        if not one.supported:
            lines.append(
                f"{'':14}{one.num_normal} healthy referrals cannot promise "
                f"{one.specificity:.1%}; the threshold lies above all of them"
            )
    return "\n".join(lines)
