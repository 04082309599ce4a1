"""Writes the tables of README.md from the results of record, between their markers.

A table stands between ``<!-- table: results/NAME.json -->`` and ``<!-- end -->``. Evaluations, or
sets of verdicts, that belong together stand in one, a line each, between
``<!-- rows: LABEL = results/NAME.json; ... -->`` and ``<!-- end -->``. With ``--check`` nothing is
written; a README that does not say what the results say is an error.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homnet.errors import DataError
from homnet.reader.measures import findings_tables
from homnet.realism.tables import realism_summary
from homnet.records.beside_paper import ablation_beside_paper, comparison_markdown
from homnet.records.endpoint_tables import load_markdown, serve_drill_markdown
from homnet.records.oracle import oracle_markdown
from homnet.records.running_time import running_time_markdown
from homnet.records.training_tables import (
    ablation_markdown,
    aucs_markdown,
    drill_markdown,
    sweep_markdown,
    throughput_markdown,
)
from homnet.report.cohort_page import cohort_markdown, verdicts_markdown
from homnet.report.markdown import tables_text
from homnet.report.tables import tables_markdown
from homnet.results import read_result
from homnet_platform.job import run_job

_TABLE = re.compile(r"(<!-- table: (?P<path>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

_OF_PATIENTS = (
    "By hospital",
    "Scores by hospital",
    "By size",
    "Harmless variants",
    "What the reader says of detected types",
    "What each kind is called",
)

_ROWS = re.compile(r"(<!-- rows: (?P<rows>[^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class UpdateConfig:
    """Which page."""

    readme: Path = Path("README.md")
    """The page; paths in its markers lead on from its folder."""
    check: bool = False
    """Only compare."""


def render(readme: Path) -> str:
    """The page with each table made anew from its result."""

    def table(match: re.Match[str]) -> str:
        result = read_result(readme.parent / match["path"])
        machine, runs = result["machine"], result["figures"].get("training", {})
        seconds = [f"{run['figures']['seconds'] / 60:.0f} minutes" for run in runs.values()]
        trained = f"; trained in {', '.join(seconds)} before" if seconds else ""
        source = (
            f"*{result['claim']}: `{match['path']}`, {result['date'][:10]}, seed "
            f"{result['seed']}, {machine['cpu']}, {machine['num_cores']} cores{trained}.*"
        )
        body = _tables(result["figures"]).strip()
        return f"{match[1]}{body}\n\n{source}\n{match[3]}"

    def rows(match: re.Match[str]) -> str:
        pairs = [one.rsplit("=", 1) for one in match["rows"].split(";")]
        evaluations = {
            label.strip(): read_result(readme.parent / path.strip()) for label, path in pairs
        }
        dates = sorted({one["date"][:10] for one in evaluations.values()})
        files = ", ".join(f"`{path.strip()}`" for _, path in pairs)
        figures = {label: one["figures"] for label, one in evaluations.items()}
        if all("evaluation" in one for one in figures.values()):
            what = "AUC, in brackets 95 % intervals by patient bootstrap"
            body = aucs_markdown({label: one["evaluation"] for label, one in figures.items()})
        else:
            what = (
                "In brackets 95 % intervals: exact ones, by bootstrap of AUC and calibration; by "
                "chance alone: the calibration error if every probability were right, and between "
                "what 95 of 100 draws lie"
            )
            body = verdicts_markdown(figures)
        source = f"*{what}: {files}; {', '.join(dates)}.*"
        return f"{match[1]}{body}\n\n{source}\n{match[3]}"

    return _ROWS.sub(rows, _TABLE.sub(table, readme.read_text()))


def _tables(figures: Mapping[str, Any]) -> str:
    """Whatever tables a result has."""
    if "evaluation" in figures:
        return tables_markdown(figures["evaluation"])
    if "ablation" in figures:
        ablation = figures["ablation"]
        # The paper's is of hospitals, after fine-tuning.
        beside_paper = ablation.get("fine_tuned", False)
        return ablation_beside_paper(ablation) if beside_paper else ablation_markdown(ablation)
    if "reproduction" in figures:
        return comparison_markdown(figures["reproduction"])
    if "running_time" in figures:
        return running_time_markdown(figures["running_time"])
    if "drill" in figures:
        return drill_markdown(figures["drill"])
    if "load" in figures:
        return load_markdown(figures["load"])
    if "serve_drill" in figures:
        return serve_drill_markdown(figures["serve_drill"])
    if "sweep" in figures:
        return sweep_markdown(figures["sweep"])
    if "throughput" in figures:
        return throughput_markdown(figures["throughput"])
    if "overall" in figures:
        return cohort_markdown(figures, _OF_PATIENTS)
    if "findings" in figures:
        return tables_text(findings_tables(figures["findings"]))
    if "oracle" in figures:
        return oracle_markdown(figures["oracle"])
    if "benchmark" in figures:
        return _benchmark_table(figures["benchmark"])
    if "bytes_on_disk" in figures:
        return _simulation_table(figures)
    return realism_summary(figures)


def _benchmark_table(figures: Mapping[str, Any]) -> str:
    """What training steps and single patients take."""
    training, patient = figures["training"], figures["patient"]
    faster = training["times_as_fast_as_looped"]
    lines = [
        "| Training step | Seconds, median (10 to 90 %) | Times as fast as looped |",
        "| --- | ---: | ---: |",
    ]
    for name, seconds in training["seconds"].items():
        spread = f"{seconds['p10']:.3f} to {seconds['p90']:.3f}"
        times = f"{faster[name]['p50']:.1f}" if name in faster else ""
        lines.append(f"| {name} | {seconds['p50']:.3f} ({spread}) | {times} |")
    lines += [
        "",
        "| One patient | Milliseconds, median (10 to 90 %) | Largest change of a score |",
        "| --- | ---: | ---: |",
    ]
    for name, seconds in patient["seconds"].items():
        low, middle, high = (1e3 * seconds[q] for q in ("p10", "p50", "p90"))
        change = patient["largest_change_of_score"][name]
        lines.append(f"| {name} | {middle:.1f} ({low:.1f} to {high:.1f}) | {change:.0e} |")
    many = patient["seconds_for_patients"]
    lines += [
        "",
        f"{many['patients']:,} patients: {many['seconds']:.1f} s. Peak memory of training: "
        f"{figures['memory_gib']['training_cpu']:.2f} GiB. Drawing, assembling and corrupting bags "
        f"takes {100 * training['input_over_batch_in_memory']:.1f} % of a step. A step is "
        f"{training['flops'] / 1e9:.0f} GFLOP; it runs at "
        f"{100 * training['share_of_matrix_peak']:.0f} % of what a large float32 matrix product "
        f"reaches here ({figures['limits']['float32_gflop_per_s']:.0f} GFLOP/s).",
    ]
    return "\n".join(lines)


def _simulation_table(figures: Mapping[str, Any]) -> str:
    """What simulating a cohort took."""
    return (
        "| Pairs | People | Seconds | Peak memory of all processes, GiB | On disk, MB |\n"
        "| ---: | ---: | ---: | ---: | ---: |\n"
        f"| {figures['pairs']:,} | {figures['people']:,} | {figures['seconds']:.0f} | "
        f"{figures['peak_memory_gib']:.2f} | {figures['bytes_on_disk'] / 1e6:.0f} |"
    )


def main(config: UpdateConfig) -> None:
    """Rewrites or compares the page."""
    wanted = render(config.readme)
    if config.check and wanted != config.readme.read_text():
        raise DataError(
            f"{config.readme}: tables differ from the results; run jobs/records/render_tables.py"
        )
    if not config.check:
        config.readme.write_text(wanted)
    print(f"tables: {len(_TABLE.findall(wanted))} in {config.readme}")


if __name__ == "__main__":
    run_job(UpdateConfig, main, description=__doc__)
