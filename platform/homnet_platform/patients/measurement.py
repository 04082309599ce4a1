"""Evaluates the verdicts of a diagnosis against the truth of its cohort, and writes a page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc

from homnet.bags.assessment import PatientType
from homnet.calibration.patients import NO_READER_USED
from homnet.cohorts.cohort import Cohort
from homnet.errors import ConfigError, DataError
from homnet.files import write_whole
from homnet.locations import Location, in_memory
from homnet.patients.finding import Finding
from homnet.patients.metrics import join_truth, measure_patients
from homnet.patients.tables import truth_of_types
from homnet.reader.measures import cases_of
from homnet.reader.measures import measure as measure_findings
from homnet.reader.truth import SEGMENT_COLUMNS, with_segments
from homnet.report.cohort_page import Case, cohort_markdown, render_cohort
from homnet.results import Record, read_json, write_json
from homnet_platform.data import rows_of
from homnet_platform.job import LocationOption
from homnet_platform.runs import refuse_known


@dataclass(frozen=True)
class MeasureConfig:
    """Evaluates a finished diagnosis of held-out patients."""

    diagnosis: LocationOption = Path("runs/diagnose")
    """Output of ``patients``."""
    cohort: str = "cohorts/simulated"
    """The cohort that was diagnosed, with its truth."""
    output: LocationOption | None = None
    """Directory for evaluation.json and index.html; by default ``measured`` in the diagnosis."""
    num_gallery: int = 4
    """Number of missed patients, and of false alarms, to draw."""
    num_bootstrap: int = 1000
    """Replicates of the patient bootstrap for AUC and calibration error."""
    seed: int = 0
    """Seed of the bootstrap."""
    record: Record = Record()
    """The result of record."""


def measure(config: MeasureConfig) -> dict[str, Any]:
    """Evaluates the verdicts, and returns the figures.

    Writes figures (evaluation.json), a page, and verdicts with their truth (patients.parquet).

    Raises:
        CohortError, ConfigError, DataError: see their messages.
    """
    cohort = Cohort.open(config.cohort)
    provenance = read_json(config.diagnosis / "provenance.json")
    patients = _table(config.diagnosis / "patients.parquet")
    types = _table(config.diagnosis / "types.parquet")
    cohort = cohort.of_hospitals(sorted(set(patients["hospital"])))
    if cohort.fingerprint != provenance["cohort"]:
        raise ConfigError(
            f"{config.diagnosis} is a diagnosis of a cohort other than {config.cohort}, or of "
            "other hospitals; give the cohort that was diagnosed"
        )
    known = provenance["known"]
    refuse_known(f"the models of {config.diagnosis}", known, set(patients["patient_id"]), *known)
    people = set(patients["patient_id"])
    truth = pd.concat([_truth(cohort, number, people) for number in range(len(cohort.files))])
    figures = measure_patients(
        patients, types, truth, seed=config.seed, num_bootstrap=config.num_bootstrap
    )
    if provenance["findings"] != NO_READER_USED:
        cases = _cases_of_findings(config.diagnosis, cohort, patients, truth)
        if not cases.empty:
            figures["findings"] = measure_findings(
                cases, seed=config.seed, num_bootstrap=config.num_bootstrap
            )
    nowhere = sorted(name for name, one in provenance["calibrations"].items() if one is None)
    if nowhere:
        raise ConfigError(
            f"{config.diagnosis}: nobody of {', '.join(nowhere)} was assessed, for want of a "
            "calibration; calibrate these hospitals, or diagnose with --hospitals of the others"
        )
    asked = {one["specificity"] for one in provenance["calibrations"].values()}
    if len(asked) > 1:
        raise ConfigError(
            f"{config.diagnosis}: thresholds were set for different specificities "
            f"({', '.join(f'{one:g}' for one in sorted(asked))}); calibrate all hospitals alike"
        )
    figures["specificity"] = asked.pop()
    figures["calibrations"] = provenance["calibrations"]
    figures["reader"] = provenance["findings"]
    output = config.output or config.diagnosis / "measured"
    joined = join_truth(patients, truth)
    if len(joined) < len(patients):
        print(
            f"{len(patients) - len(joined)} patients have no pair in {config.cohort}, so nothing "
            "says whether they are abnormal: left out of the figures"
        )
    table = joined.to_parquet()
    page = render_cohort(figures, _gallery(config, cohort, joined), provenance)
    # Nobody believes files of two runs: readers ask for the figures, which are written last.
    for name in ("evaluation.json", "index.html"):
        (output / name).unlink(missing_ok=True)
    write_whole(output / "patients.parquet", table)
    write_whole(output / "index.html", page)
    write_json(output / "evaluation.json", figures)
    config.record.write(
        figures, recipe=f"patients, specificity {figures['specificity']:g}", seed=config.seed
    )
    print(cohort_markdown(figures))
    print(f"report: {output / 'index.html'}")
    return figures


def _table(path: Location) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; run jobs/diagnose.py patients first")
    return pd.read_parquet(in_memory(path))


def _truth(cohort: Cohort, number: int, people: set[str]) -> pd.DataFrame:
    columns = ["hospital", "patient_id", "chromosome", "quality", "abnormal", "kind", "size_mb"]
    table = cohort.read(cohort.files[number], [*columns, "iscn", "variant"])
    return truth_of_types(rows_of(table, people))


def _cases_of_findings(
    diagnosis: Location, cohort: Cohort, patients: pd.DataFrame, truth: pd.DataFrame
) -> pd.DataFrame:
    """Findings on the abnormal types, with the truth of their pairs.

    A type is detected if the verdict on an abnormal patient rests on it.
    """
    carriers = set(truth.loc[truth["true_abnormal"], "patient_id"])
    columns = [*PatientType._fields, "cell_id", "abnormal", "kind", "size_mb", "homolog"]
    table = with_segments(rows_of(cohort.read(columns=[*columns, "breakpoints"]), carriers))
    pairs = table.select([*columns, *SEGMENT_COLUMNS]).to_pandas()
    judged = patients[patients["patient_id"].isin(carriers)].to_dict("records")
    detected = {
        PatientType(row["hospital"], row["patient_id"], chromosome)
        for row in judged
        if row["decision"] == "abnormal"
        for chromosome in row["flagged"]
    }
    found = (
        finding
        for row in judged
        for finding in _findings(diagnosis, row["hospital"], row["patient_id"]).values()
    )
    return cases_of(found, pairs, detected)


def _findings(diagnosis: Location, hospital: str, patient_id: str) -> dict[str, Finding]:
    """Findings on each assessed type of a patient."""
    verdict = read_json(diagnosis / "patients" / hospital / f"{patient_id}.json")
    return {
        one["chromosome"]: Finding.from_json(one["finding"])
        for one in verdict["types"]
        if one["finding"] is not None
    }


def _gallery(config: MeasureConfig, cohort: Cohort, joined: pd.DataFrame) -> list[Case]:
    """The missed patients with the least evidence and the false alarms with the most."""
    wrong = joined[joined["score"].notna()].assign(
        margin=lambda rows: rows["score"] - rows["threshold"]
    )
    overlooked = wrong[wrong["true_abnormal"] & ~wrong["called"]].nsmallest(
        config.num_gallery, "margin"
    )
    alarms = wrong[~wrong["true_abnormal"] & wrong["called"]].nlargest(config.num_gallery, "margin")
    cases = []
    for rows, title, types in (
        (overlooked, "overlooked", "true_types"),
        (alarms, "false alarm", "flagged"),
    ):
        for record in rows.to_dict("records"):
            row = {str(name): value for name, value in record.items()}
            hospital, patient_id = row["hospital"], row["patient_id"]
            # The first of the types, if it was assessed.
            chromosome = next(iter(row[types]), "")
            finding = _findings(config.diagnosis, hospital, patient_id).get(chromosome)
            if finding is None:
                continue
            file = next(
                entry
                for entry in cohort.files
                if entry.hospital == hospital and patient_id in entry.patients
            )
            table = rows_of(cohort.read(file), [patient_id])
            cases.append(
                Case(
                    title=title,
                    patient=row,
                    finding=finding,
                    table=table.filter(pc.equal(table["chromosome"], chromosome)),
                    samples_per_px=cohort.scale[hospital],
                )
            )
    return cases
