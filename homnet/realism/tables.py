"""Markdown tables of a comparison."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.realism.scorecard import Row, agrees
from homnet.realism.type_classifier import CHANCE
from homnet.report.markdown import markdown_table
from homnet.report.tables import ABSENT, cell


def scorecard_rows(simulated: Sequence[Row], real: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns the figures of two scorecards side by side as plain types; None if undefined."""
    return [
        {
            "name": wanted.name,
            "simulated": _plain(found.value),
            "real": _plain(wanted.value),
            "simulated_quartiles": found.quartiles and [_plain(one) for one in found.quartiles],
            "real_quartiles": wanted.quartiles and [_plain(one) for one in wanted.quartiles],
            "agrees": agrees(found, wanted),
        }
        for found, wanted in zip(simulated, real, strict=True)
    ]


def realism_markdown(figures: Mapping[str, Any]) -> str:
    """Returns all tables of a comparison; missing parts are left out."""
    parts = []
    if "scorecard" in figures:
        parts += [_scorecard(figures["scorecard"]), _two_sample(figures["two_sample"])]
        parts.append(_type_classifier(figures["type_classifier"]))
    if "length_only" in figures:
        parts += [_hospitals(figures["length_only"]), _sizes(figures["length_only"])]
    return "\n\n".join(parts) + "\n"


def realism_summary(figures: Mapping[str, Any]) -> str:
    """Returns a summary of the comparison in a few lines."""
    lines = []
    if "scorecard" in figures:
        rows = figures["scorecard"]["rows"]
        halves = figures["scorecard"]["real_halves"]["rows"]
        missed = "; ".join(row["name"] for row in rows if not row["agrees"])
        agreed = f"{figures['scorecard']['num_agree']} of {len(rows)}"
        lines.append([f"figures of the scorecard that agree (all but: {missed})", agreed])
        lines.append(
            [
                f"the same between random halves of the real people, {len(halves)} times",
                f"{len(rows) - max(halves)} to {len(rows) - min(halves)} of {len(rows)}, median "
                f"{len(rows) - statistics.median(halves):g}",
            ]
        )
        lines += [
            [
                f"AUC of telling simulated pairs from real ones (0.5 is ideal), {name}",
                cell(test["auc"], decimals=3),
            ]
            for name, test in figures["two_sample"].items()
        ]
        lines += [
            [
                f"accuracy of naming the type of real chromosomes (chance {CHANCE:.3f}), "
                f"learnt from {name}",
                cell(test["accuracy"], decimals=3),
            ]
            for name, test in figures["type_classifier"].items()
        ]
    if "length_only" in figures:
        lines += [
            [
                f"AUC of length alone, {name}: pairs / bags of five",
                f"{cell(one['pairs'], decimals=3)} / {cell(one['bags'], decimals=3)}",
            ]
            for name, one in figures["length_only"]["hospitals"].items()
        ]
    return markdown_table(["What was measured", "Figure"], lines)


def _scorecard(card: Mapping[str, Any]) -> str:
    lines = [
        [
            row["name"],
            _with_quartiles(row["simulated"], row["simulated_quartiles"]),
            _with_quartiles(row["real"], row["real_quartiles"]),
            "yes" if row["agrees"] else "**no**",
        ]
        for row in card["rows"]
    ]
    title = f"Scorecard: {card['num_agree']} of {len(lines)} figures agree"
    often = sorted(card["real_halves"]["names"].items(), key=lambda item: -item[1])
    splits = len(card["real_halves"]["rows"])
    note = (
        f"Two random halves of the real people, {splits} times, disagree in "
        f"{statistics.median(card['real_halves']['rows']):g} figures (median), most often in: "
        + "; ".join(f"{name} ({times} times)" for name, times in often[:5])
        + "."
    )
    return f"{_table(title, ['Figure', 'Simulated', 'Real', 'Agrees'], lines)}\n\n{note}"


def _two_sample(tests: Mapping[str, Any]) -> str:
    lines = [
        [
            name,
            cell(test["auc"], decimals=3),
            ", ".join(f"{key} {fall:.3f}" for key, fall in [*test["importance"].items()][:5]),
        ]
        for name, test in tests.items()
    ]
    title = "Telling pairs apart (0.5 is ideal)"
    return _table(title, ["Test", "AUC", "What it falls by without"], lines)


def _type_classifier(tests: Mapping[str, Any]) -> str:
    title = f"Naming the type of real chromosomes (chance is {CHANCE:.3f})"
    overall = [["all", *(cell(test["accuracy"], decimals=3) for test in tests.values())]]
    by_type = [
        [name, *(f"{test['recall'][name]:.2f}" for test in tests.values())]
        for name in CHROMOSOMES
        if all(name in test["recall"] for test in tests.values())
    ]
    return _table(title, ["Type", *(f"Learnt from {name}" for name in tests)], overall + by_type)


def _hospitals(found: Mapping[str, Any]) -> str:
    lines = [
        [
            name,
            cell(one["pairs"], decimals=3),
            cell(one["bags"], decimals=3),
            f"{one['log_ratio_sd']:.3f}",
            f"{one['threshold']:.3f}",
            f"{one['num_abnormal_pairs']}",
            f"{one['num_abnormal_bags']}",
        ]
        for name, one in found["hospitals"].items()
    ]
    return _table(
        "Abnormalities by length alone (AUC)",
        [
            "Hospital",
            "Pairs",
            "Bags of five",
            "Sd of the log ratio of normal homologs",
            "99 % of it",
            "Abnormal pairs",
            "Abnormal bags",
        ],
        lines,
    )


def _sizes(found: Mapping[str, Any]) -> str:
    lines = [
        [
            kind,
            f"{one['from_mb']:g} to {one['to_mb']:g}",
            f"{one['recall']:.2f}",
            f"{one['expected']:.2f}",
            f"{one['num_pairs']}",
            f"{one['num_people']}",
        ]
        for kind, classes in found["sizes"].items()
        for one in classes
    ]
    return _table(
        "Recall of pairs by length alone at 99 % specificity",
        ["Kind", "Size, Mb", "Recall", "By arithmetic", "Pairs", "People"],
        lines,
    )


def _table(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return f"### {title}\n\n{markdown_table(header, lines)}"


def _with_quartiles(value: float | None, quartiles: Sequence[float | None] | None) -> str:
    shown = _number(value)
    return shown if quartiles is None else f"{shown} ({' to '.join(map(_number, quartiles))})"


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3g}"


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
