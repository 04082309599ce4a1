"""Evaluation report as one HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pandas as pd

from homnet.errors import DataError
from homnet.evaluation.score_table import check_scores
from homnet.files import write_whole
from homnet.locations import Location, to_location
from homnet.report import figures, tables
from homnet.report.cohort_page import verdicts_by_hospital
from homnet.report.examples import Example
from homnet.report.html import data_uri, label, render_page
from homnet.report.karyogram import single_pairs

_PARTS: Final = ("overall", "hospitals", "thresholds", "validation", "specificity", "num_bootstrap")
_FEW_PEOPLE: Final = 10
"""Kinds seen in fewer people than this are listed among the caveats."""


@dataclass(frozen=True)
class Report:
    """Content of a report."""

    title: str
    """Heading of the page."""
    evaluation: Mapping[str, Any]
    """Result of :func:`homnet.evaluation.metrics.evaluate`."""
    scores: pd.DataFrame
    """Scores from which it was computed (:mod:`homnet.evaluation.score_table`)."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Recipe, seed, checkpoint hash, cohort fingerprint, machine and date of the run. Shown as
    given, one line per key."""
    histories: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Epochs of each training stage, by stage name: ``epoch`` (from 0; the page counts from 1),
    ``train_loss`` and ``validation_auc``."""
    cohort: Mapping[str, Any] | None = None
    """Result of :func:`homnet.cohorts.summary.summarise_cohort`."""
    examples: Sequence[Example] = ()
    """Pairs to draw."""
    not_assessed: Mapping[str, int] | None = None
    """Number of pairs left out, by reason; None if not counted."""
    patients: Mapping[str, Any] | None = None
    """Result of :func:`homnet.patients.metrics.measure_patients` with ``specificity`` and
    ``calibrations``: verdicts on the same hospitals' patients; None if there are none."""
    patient_pages: Sequence[tuple[str, str]] = ()
    """What is linked beside them: text, and address relative to the page."""


def write_report(output: str | Location, report: Report) -> Location:
    """Writes ``index.html``, a self-contained page, and returns its path.

    Args:
        output: folder of the page, created if missing. An earlier page is replaced atomically.
        report: content of the page.

    Raises:
        DataError: the evaluation lacks a part, or the scores do not match the evaluation.
    """
    return write_whole(to_location(output) / "index.html", render(report))


def render(report: Report) -> str:
    """Returns the page as HTML.

    Raises:
        DataError: as :func:`write_report`.
    """
    evaluation = report.evaluation
    missing = [name for name in _PARTS if name not in evaluation]
    if missing:
        raise DataError(f"The evaluation has no '{missing[0]}'; run jobs/evaluate.py again.")
    scores = check_scores(report.scores)
    num_events = int((scores["abnormal"] & (scores["split"] == "test")).sum())
    if num_events != evaluation["overall"]["num_abnormal_bags"]:
        raise DataError(
            f"The scores have {num_events} abnormal test bags and the evaluation "
            f"{evaluation['overall']['num_abnormal_bags']}; they are of two runs: evaluate again."
        )
    return render_page(
        "template.html.j2",
        report=report,
        evaluation=evaluation,
        overall=evaluation["overall"],
        rows=[
            {"name": name, "scope": scope, "metrics": scope["metrics"]}
            for name, scope in tables.scopes(evaluation)
        ],
        sensitivity=tables.sensitivity_heading(evaluation),
        people_per_bag=int(scores["patients"].map(lambda people: len(set(people))).max()),
        pairs_per_bag=_range(scores["num_pairs"]),
        band_levels=_range(scores["band_level"]),
        pictures=_pictures(report, scores),
        caveats=_caveats(evaluation),
        verdicts=None if report.patients is None else verdicts_by_hospital(report.patients),
        fewest_healthy=None if report.patients is None else _fewest_healthy(report.patients),
        stages=_stages(report.histories),
        provenance=_lines(report.provenance),
        cohort_provenance=_lines((report.cohort or {}).get("provenance", {})),
    )


def _fewest_healthy(patients: Mapping[str, Any]) -> int | None:
    """Healthy patients behind the worst supported threshold; None if all are supported."""
    fewest = min(one["num_normal"] for one in patients["calibrations"].values())
    supported = fewest / (fewest + 1) >= patients["specificity"]
    return None if supported else int(fewest)


def _pictures(report: Report, scores: pd.DataFrame) -> dict[str, str]:
    """Returns the available pictures by name: data URIs; ``examples`` is an SVG."""
    evaluation = report.evaluation
    curves = {
        "roc": figures.roc_figure(scores, evaluation),
        "precision_recall": figures.precision_recall_figure(scores, evaluation),
        "kinds": figures.kinds_figure(evaluation),
        "histogram": figures.score_histogram(scores, evaluation),
    }
    if evaluation["overall"].get("event_sizes_mb"):
        curves["detection"] = figures.detection_figure(evaluation)
    if any(report.histories.values()):
        curves["training"] = figures.training_figure(report.histories)
    drawn = {name: data_uri(curve, "svg+xml") for name, curve in curves.items()}
    if report.examples:
        drawn["examples"] = single_pairs(
            report.examples, label=f"{len(report.examples)} pairs, the two homologs side by side."
        )
    return drawn


def _stages(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Returns the best epoch and last loss of each training stage with at least one epoch."""
    stages = []
    for name, epochs in histories.items():
        judged = [one for one in epochs if one.get("validation_auc") is not None]
        best = max(judged, key=lambda one: one["validation_auc"], default=None)
        if epochs:
            stages.append(
                {
                    "name": name,
                    "num_epochs": len(epochs),
                    "best_epoch": best["epoch"] + 1 if best else tables.ABSENT,
                    "best_auc": best["validation_auc"] if best else None,
                    "last_loss": epochs[-1].get("train_loss"),
                }
            )
    return stages


def _caveats(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the limits of the results that follow from the numbers themselves."""
    overall = evaluation["overall"]
    hospitals = evaluation["hospitals"]
    enough = 1 / (1 - evaluation["specificity"])
    estimates = [
        value
        for _, scope in tables.scopes(evaluation)
        for value in (scope["metrics"] or {}).values()
        if isinstance(value, Mapping)
    ]
    estimates += [row["auc"] for row in overall["kinds"].values()]
    return {
        "few_people_limit": _FEW_PEOPLE,
        "rare_kinds": {
            kind: row["num_people"]
            for kind, row in overall["kinds"].items()
            if row["num_people"] < _FEW_PEOPLE
        },
        "one_class": [name for name, scope in hospitals.items() if scope["metrics"] is None],
        "few_normal": {
            name: scope["num_normal_bags"]
            for name, scope in hospitals.items()
            if scope["metrics"] is not None and scope["num_normal_bags"] < round(enough)
        },
        "borrowed": [
            name
            for name, chosen in evaluation["thresholds"].items()
            if chosen["chosen_on"].endswith("all hospitals")
        ],
        "num_degenerate": max((value["num_degenerate"] for value in estimates), default=0),
        "no_interval": any(value["low"] is None for value in estimates),
    }


def _lines(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns label and text of each value."""
    return [(label(key), _text(value)) for key, value in content.items()]


def _text(value: object) -> str:
    """Returns a value as text; items of mappings and lists are concatenated."""
    if isinstance(value, Mapping):
        return ", ".join(
            f"{label(key)} ({_text(member)})"
            if isinstance(member, Mapping)
            else f"{label(key)} {_text(member)}"
            for key, member in value.items()
        )
    if isinstance(value, list | tuple):
        return ", ".join(_text(member) for member in value) or "none"
    return "none" if value is None else str(value)


def _range(values: "pd.Series[int]") -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"
