"""Writes the tables of README.md from the results of record, between their markers.

A table stands between ``<!-- table: results/NAME.json -->`` and ``<!-- end -->``. With ``--check``
nothing is written; a README that does not say what the results say is an error.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homnet.errors import DataError
from homnet.realism.tables import realism_summary
from homnet.report import ablation_markdown, tables_markdown
from homnet.results import read_result
from homnet_platform.job import run_job

_TABLE = re.compile(r"(<!-- table: (?P<path>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


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

    return _TABLE.sub(table, readme.read_text())


def _tables(figures: Mapping[str, Any]) -> str:
    """Whatever tables a result has."""
    if "evaluation" in figures:
        return tables_markdown(figures["evaluation"])
    if "ablation" in figures:
        return ablation_markdown(figures["ablation"])
    if "bytes_on_disk" in figures:
        return _simulation_table(figures)
    return realism_summary(figures)


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
            f"{config.readme}: tables differ from the results; run jobs/update_readme.py"
        )
    if not config.check:
        config.readme.write_text(wanted)
    print(f"tables: {len(_TABLE.findall(wanted))} in {config.readme}")


if __name__ == "__main__":
    run_job(UpdateConfig, main, description=__doc__)
