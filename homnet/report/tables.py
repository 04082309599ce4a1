"""Formats evaluation results as text: cells, rows and the Markdown tables of the README."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from homnet.report.markdown import markdown_table

ALL_HOSPITALS: Final = "all hospitals"
ABSENT: Final = "n/a"
LENGTH_PRESERVING: Final = frozenset({"inversion", "replacement"})
"""Kinds that leave the length unchanged; they are the hardest to detect."""


def number(value: float | None) -> str:
    """Returns a metric with three decimals; ``n/a`` if it is undefined."""
    return ABSENT if value is None else f"{value:z.3f}"


def interval(estimate: Mapping[str, Any] | None, decimals: int = 2) -> str:
    """Returns a 95 % interval such as ``0.88 to 0.96``, or an empty string if there is none."""
    if estimate is None or estimate["low"] is None:
        return ""
    return f"{estimate['low']:z.{decimals}f} to {estimate['high']:z.{decimals}f}"


def cell(estimate: Mapping[str, Any] | None, decimals: int = 2) -> str:
    """Returns value and interval on one line, such as ``0.931 (0.88 to 0.96)``.

    Args:
        estimate: with ``value``, ``low`` and ``high``; None if there is none.
        decimals: number of decimals of the interval.
    """
    if estimate is None:
        return ABSENT
    bounds = interval(estimate, decimals)
    return number(estimate["value"]) + (f" ({bounds})" if bounds else "")


def percent(share: float) -> str:
    """Returns a share as a percentage, with two digits of its own or its rest's below 10 %."""
    rare = 100 * min(share, 1 - share)
    decimals = 1 - math.floor(math.log10(rare)) if 0 < rare < 9.95 else 0
    return f"{round(100 * share, decimals):g} %"


def probable(probability: float, decimals: int = 2) -> str:
    """Returns a probability as text, and never as a certainty: ``above 0.99``."""
    least = 10.0**-decimals
    if probability < least / 2:
        return f"below {least:.{decimals}f}"
    if probability >= 1 - least / 2:
        return f"above {1 - least:.{decimals}f}"
    return f"{probability:.{decimals}f}"


def distinct(first: float, second: float) -> tuple[str, str]:
    """Returns two numbers with the fewest decimals, one at least, that tell them apart."""
    texts = f"{first:.1f}", f"{second:.1f}"
    for decimals in range(2, 7):
        if texts[0] != texts[1]:
            break
        texts = f"{first:.{decimals}f}", f"{second:.{decimals}f}"
    return texts if texts[0] != texts[1] else (f"{first:.1f}", f"{second:.1f}")


def scopes(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields each hospital and, if there are several, all together."""
    yield from evaluation["hospitals"].items()
    if len(evaluation["hospitals"]) > 1:
        yield ALL_HOSPITALS, evaluation["overall"]


def metric(scope: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Returns an estimate of a scope; None if the scope has only one class."""
    metrics = scope["metrics"]
    return None if metrics is None else metrics[name]


def sensitivity_heading(evaluation: Mapping[str, Any]) -> str:
    """Returns the heading of the sensitivity column."""
    return f"Sensitivity at {percent(evaluation['specificity'])} specificity"


def tables_markdown(evaluation: Mapping[str, Any]) -> str:
    """Returns the headline and the per-kind table of an evaluation, in Markdown."""
    sensitivity = sensitivity_heading(evaluation)
    headline = markdown_table(
        (
            "Hospital",
            "AUC",
            "PR-AUC",
            "PR-AUC without skill",
            "F1",
            sensitivity,
            "Test people (abnormal)",
            "Test bags (abnormal)",
        ),
        [
            (
                name,
                cell(metric(scope, "auc")),
                cell(metric(scope, "pr_auc")),
                number(scope["prevalence"]),
                cell(metric(scope, "f1")),
                cell(metric(scope, "sensitivity")),
                f"{scope['num_people']} ({scope['num_abnormal_people']})",
                f"{scope['num_bags']} ({scope['num_abnormal_bags']})",
            )
            for name, scope in scopes(evaluation)
        ],
    )
    overall = evaluation["overall"]
    kinds = [
        (
            kind.replace("_", " "),
            cell(row["auc"]),
            cell(row["sensitivity"]),
            row["num_people"],
            row["num_bags"],
        )
        for kind, row in overall["kinds"].items()
    ]
    if len(kinds) > 1:
        people, bags = overall["num_abnormal_people"], overall["num_abnormal_bags"]
        kinds.append(("mean over kinds", cell(overall["kind_balanced_auc"]), "", people, bags))
    seam = overall["seam_control"]
    if seam is not None:
        name = "seam control (sham; 0.5 is ideal)"
        kinds.append((name, cell(seam["auc"]), "", seam["num_people"], seam["num_bags"]))
    by_kind = markdown_table(("Kind", "AUC", sensitivity, "Test people", "Test bags"), kinds)
    kept = sorted(LENGTH_PRESERVING & overall["kinds"].keys())
    by_cells = [
        (
            _pairs_per_bag(num_cells, scope),
            *(cell(metric(scope, name)) for name in ("auc", "f1", "sensitivity")),
            *(cell(scope["kinds"][kind]["auc"]) for kind in kept),
        )
        for num_cells, scope in evaluation.get("by_cells", {}).items()
    ]
    by_size = [
        (size, cell(row["auc"]), cell(row["detection"]), row["num_people"], row["num_bags"])
        for size, row in overall.get("event_sizes_mb", {}).items()
    ]
    tables = [headline, by_kind]
    if by_cells:
        heads = ("Pairs per bag", "AUC", "F1", sensitivity, *(f"AUC, {kind}" for kind in kept))
        tables.append(markdown_table(heads, by_cells))
    if by_size:
        heads = ("Size", "AUC", "Sensitivity at 99.9 % specificity", "Test people", "Test bags")
        tables.append(markdown_table(heads, by_size))
    tables.append("In brackets: 95 % intervals by patient bootstrap.\n")
    return "\n\n".join(tables)


def _pairs_per_bag(asked: str, scope: Mapping[str, Any]) -> str:
    """Returns the requested number, and the mean if patients have fewer cells."""
    mean = scope["num_pairs"] / scope["num_bags"]
    return asked if float(asked) - mean < 0.05 else f"{asked} (mean {mean:.1f})"
