"""Fills the tables and numbers of the documentation from results of record, between markers.

Three kinds of marker, each closed by ``<!-- end -->``; paths are relative to the project's root:

- ``<!-- table: results/NAME.json -->``: all tables of a result; with `` short`` after the path its
  short table.
- ``<!-- rows: LABEL = results/NAME.json; ... -->``: evaluations, or sets of verdicts, as one
  table with a line each.
- ``<!-- value: results/NAME.json KEY/KEY... -->``: one number; a format such as ``.1f`` after
  the keys replaces the default of three decimals.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from homnet.errors import DataError
from homnet.reader.measures import findings_tables
from homnet.realism.tables import realism_summary
from homnet.records.beside_paper import (
    comparison_markdown,
    running_time_markdown,
    variants_markdown,
)
from homnet.records.endpoint_tables import fuzz_markdown, load_markdown, serve_drill_markdown
from homnet.records.karyogram_reading import karyogram_reading_markdown
from homnet.records.level_estimation import levels_markdown
from homnet.records.oracle import oracle_markdown
from homnet.records.patient_search import patient_search_markdown
from homnet.records.training_tables import (
    aucs_markdown,
    benchmark_markdown,
    drill_markdown,
    sweep_markdown,
    throughput_markdown,
)
from homnet.records.treated_images import treated_images_markdown
from homnet.report.cohort_page import cohort_markdown, verdicts_in_short, verdicts_markdown
from homnet.report.markdown import markdown_table, tables_text
from homnet.report.tables import cell, scopes, sensitivity_heading, tables_markdown
from homnet.results import read_result

Renderer = Callable[[Mapping[str, Any]], str]

_TABLE: Final = re.compile(
    r"(<!-- table: (?P<path>\S+)(?P<short> short)? -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)
_ROWS: Final = re.compile(r"(<!-- rows: (?P<rows>[^>]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
_VALUE: Final = re.compile(
    r"(<!-- value: (?P<path>\S+) (?P<keys>.+?)(?: (?P<format>[.,]\d*[f%d]?))? -->)"
    r"[^\n]*?(?P<end><!-- end -->)"
)
_OF_PATIENTS: Final = (
    "By hospital",
    "Scores by hospital",
    "By size",
    "Harmless variants",
    "What the reader says of detected types",
    "What each kind is called",
)


def render_page(text: str, root: Path) -> str:
    """Returns a page with the content of all markers rendered again.

    Args:
        text: the page, in Markdown.
        root: directory that the paths of markers are relative to.

    Raises:
        DataError: a result is missing or damaged, lacks the number, or has no table.
    """

    def table(match: re.Match[str]) -> str:
        result = read_result(root / match["path"])
        body = result_tables(result["figures"], short=bool(match["short"])).strip()
        return f"{match[1]}{body}\n\n{_source(match['path'], result)}\n{match['end']}"

    def rows(match: re.Match[str]) -> str:
        pairs = [one.rsplit("=", 1) for one in match["rows"].split(";")]
        paths = {label.strip(): path.strip() for label, path in pairs}
        results = {label: read_result(root / path) for label, path in paths.items()}
        files = ", ".join(f"`{path}`" for path in paths.values())
        dates = ", ".join(sorted({one["date"][:10] for one in results.values()}))
        body, note = _rows_of({label: one["figures"] for label, one in results.items()})
        return f"{match[1]}{body}\n\n*{note}: {files}; {dates}.*\n{match['end']}"

    def value(match: re.Match[str]) -> str:
        found: Any = read_result(root / match["path"])["figures"]
        for key in match["keys"].split("/"):
            try:
                found = found[int(key) if isinstance(found, list) else key]
            except (LookupError, TypeError, ValueError):
                message = f"{match['path']}: there is no number '{match['keys']}'"
                raise DataError(message) from None
        form = match["format"] or ("," if isinstance(found, int) else ".3f")
        return f"{match[1]}{found:{form}}{match['end']}"

    return _VALUE.sub(value, _ROWS.sub(rows, _TABLE.sub(table, text)))


def result_tables(figures: Mapping[str, Any], *, short: bool = False) -> str:
    """The tables of a result in Markdown.

    Args:
        figures: figures of the result; the keys name the measurement.
        short: returns the short table instead.

    Raises:
        DataError: this kind of result has no table, or no short one.
    """
    renderers = _SHORT if short else _RENDERERS
    for key, renderer in renderers.items():
        if key in figures:
            return renderer(figures if key in _AT_THE_TOP else figures[key])
    raise DataError(f"no {'short ' if short else ''}table for figures {sorted(figures)}")


def _source(path: str, result: Mapping[str, Any]) -> str:
    """Caption of the figures: claim, path, date, seed, machine and training time."""
    machine, trainings = result["machine"], result["figures"].get("training", {})
    minutes = [f"{one['figures']['seconds'] / 60:.0f} minutes" for one in trainings.values()]
    trained = f"; training took {', '.join(minutes)}" if minutes else ""
    return (
        f"*{result['claim'].rstrip('.')}: `{path}`, {result['date'][:10]}, seed {result['seed']}, "
        f"{machine['cpu']}, {machine['num_cores']} cores{trained}.*"
    )


def _rows_of(figures: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """One table of several results of the same kind, and a description of its intervals."""
    if all("evaluation" in one for one in figures.values()):
        evaluations = {label: one["evaluation"] for label, one in figures.items()}
        return aucs_markdown(evaluations), "AUC, in brackets 95 % intervals by patient bootstrap"
    return verdicts_markdown(figures), (
        "In brackets 95 % intervals, exact for shares, by bootstrap for AUC and calibration error; "
        "by chance: the calibration error of right probabilities, and the range of 95 % of draws"
    )


def _simulation(figures: Mapping[str, Any]) -> str:
    return markdown_table(
        ("Pairs", "People", "Seconds", "Peak memory of all processes, GiB", "On disk, MB"),
        [
            (
                f"{figures['pairs']:,}",
                f"{figures['people']:,}",
                f"{figures['seconds']:.0f}",
                f"{figures['peak_memory_gib']:.2f}",
                f"{figures['bytes_on_disk'] / 1e6:.0f}",
            )
        ],
    )


def _evaluation_in_short(evaluation: Mapping[str, Any]) -> str:
    """AUC and sensitivity of all bags and of each kind."""
    *_, (_, everything) = scopes(evaluation)
    lines = {"all": {**everything, **everything["metrics"]}, **evaluation["overall"]["kinds"]}
    return markdown_table(
        ("Abnormality", "AUC", sensitivity_heading(evaluation), "Abnormal bags"),
        [
            (
                name.replace("_", " "),
                cell(one["auc"]),
                cell(one["sensitivity"]),
                one.get("num_abnormal_bags", one["num_bags"]),
            )
            for name, one in lines.items()
        ],
    )


_RENDERERS: Final[Mapping[str, Renderer]] = {
    "evaluation": tables_markdown,
    "ablation": variants_markdown,
    "reproduction": comparison_markdown,
    "running_time": running_time_markdown,
    "drill": drill_markdown,
    "fuzz": fuzz_markdown,
    "load": load_markdown,
    "serve_drill": serve_drill_markdown,
    "sweep": sweep_markdown,
    "throughput": throughput_markdown,
    "overall": lambda figures: cohort_markdown(figures, _OF_PATIENTS),
    "findings": lambda figures: tables_text(findings_tables(figures)),
    "oracle": oracle_markdown,
    "patient_search": patient_search_markdown,
    "treated_images": treated_images_markdown,
    "karyogram_reading": karyogram_reading_markdown,
    "band_levels": levels_markdown,
    "benchmark": benchmark_markdown,
    "bytes_on_disk": _simulation,
    "scorecard": realism_summary,
    "length_only": realism_summary,
}
"""By key of the figures; the first key in a result counts (verdicts also have findings)."""
_SHORT: Final[Mapping[str, Renderer]] = {
    "evaluation": _evaluation_in_short,
    "overall": verdicts_in_short,
}
_AT_THE_TOP: Final = frozenset({"overall", "bytes_on_disk", "scorecard", "length_only"})
"""Keys whose renderer takes all figures of the result."""
