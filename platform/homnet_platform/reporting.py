"""Writes the report on an evaluation, a self-contained HTML page."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.summary import summarise_cohort
from homnet.errors import DataError
from homnet.evaluation.score_table import read_scores
from homnet.files import digest_of, write_whole
from homnet.locations import Location, in_memory
from homnet.report.cohort_page import named_truth
from homnet.report.examples import draw_examples
from homnet.report.page import Report, write_report
from homnet.report.tables import tables_markdown
from homnet.results import read_json
from homnet_platform.job import LocationOption


@dataclass(frozen=True)
class ReportConfig:
    """The evaluation to report on, and the contents of the page."""

    evaluation: LocationOption
    """Directory that jobs/evaluate.py wrote: evaluation.json, scores.parquet, provenance.json."""
    output: LocationOption | None = None
    """Folder of index.html; by default ``report`` inside the evaluation directory."""
    cohort: LocationOption | None = None
    """The evaluated cohort, to show its counts and some of its pairs."""
    checkpoints: tuple[LocationOption, ...] = ()
    """Checkpoints whose training curves are shown, in this order, labelled by folder."""
    title: str = "HomNet: structural chromosome abnormalities from homologous pairs"
    """Heading of the page."""
    diagnosis: LocationOption | None = None
    """Verdicts on the same hospitals' patients (jobs/diagnose.py), measured: the report then opens
    with patients, and links the pages of one who was found and one who was missed."""
    num_examples: int = 8
    """Number of cohort pairs to draw."""
    seed: int = 0
    """Seed of the choice of those pairs."""


def report(config: ReportConfig) -> Location:
    """Prints the tables of an evaluation, writes its page and returns the location.

    Raises:
        CohortError, DataError: a file is missing, damaged or of another evaluation.
    """
    evaluation = read_json(config.evaluation / "evaluation.json")
    provenance = read_json(config.evaluation / "provenance.json")
    place = config.evaluation / "scores.parquet"
    scores = read_scores(place)
    # An evaluation of an earlier version has no digest.
    if evaluation.get("scores_sha256") not in (None, digest_of(place)):
        raise DataError(
            f"{place}: the scores are not those of evaluation.json, or were changed; run "
            "jobs/evaluate.py again"
        )
    summary, examples = None, []
    if config.cohort is not None:
        cohort = Cohort.open(config.cohort)
        summary = summarise_cohort(cohort)
        examples = draw_examples(cohort, config.num_examples, np.random.default_rng(config.seed))
    output = config.output or config.evaluation / "report"
    patients, pages = None, []
    if config.diagnosis is not None:
        patients = read_json(config.diagnosis / "measured" / "evaluation.json")
        pages = _patient_pages(config.diagnosis, output)
    content = Report(
        title=config.title,
        evaluation=evaluation,
        scores=scores,
        provenance=provenance,
        histories=_histories(config.checkpoints),
        cohort=summary,
        examples=examples,
        not_assessed=_not_assessed(provenance),
        patients=patients,
        patient_pages=pages,
    )
    page = write_report(output, content)
    print(tables_markdown(evaluation))
    print(f"report: {page}")
    return page


def _patient_pages(diagnosis: Location, output: Location) -> list[tuple[str, str]]:
    """Copies the page of the clearest patient who was found, and of the nearest who was missed.

    Returns:
        Text and relative address of each link.
    """
    joined = pd.read_parquet(in_memory(diagnosis / "measured" / "patients.parquet"))
    carriers = joined[joined["true_abnormal"] & joined["score"].notna()]
    missed = carriers[carriers["decision"] == "no_abnormality_found"]
    chosen = (
        ("A patient who was found", carriers[carriers["called"]].nlargest(1, "score")),
        ("A patient who was missed", missed.nlargest(1, "score")),
    )
    links = []
    for text, rows in chosen:
        for row in rows.to_dict("records"):
            place = f"patients/{row['hospital']}/{row['patient_id']}.html"
            if (diagnosis / place).is_file():
                write_whole(output / place, (diagnosis / place).read_text(encoding="utf-8"))
                links.append((f"{text}; in truth {named_truth(row)}", place))
    return links


def _histories(checkpoints: Sequence[Location]) -> dict[str, Any]:
    """Training history of each checkpoint, by the part of its path that is unique."""
    runs = [path.resolve() for path in checkpoints]
    runs = [path.parent if path.name == "checkpoint" else path for path in runs]
    above = zip(*(run.parts[:-1] for run in runs), strict=False)
    shared = sum(1 for _ in itertools.takewhile(lambda names: len(set(names)) == 1, above))
    return {
        "/".join(run.parts[shared:]): read_json(path / "metrics.json").get("history", [])
        for run, path in zip(runs, checkpoints, strict=True)
    }


def _not_assessed(provenance: dict[str, Any]) -> dict[str, int] | None:
    """Number of unassessable pairs, by split; None if the evaluation did not count them."""
    if "counts" not in provenance:
        return None
    counts = {split: part["not assessed"] for split, part in provenance["counts"].items()}
    return {f"one homolog only, {split} people": n for split, n in counts.items() if n}
