"""The report of an evaluation: one HTML page without external parts, and Markdown tables."""

from homnet.report.figures import Example
from homnet.report.page import Report, write_report
from homnet.report.serve_tables import load_markdown, serve_drill_markdown
from homnet.report.summary import draw_examples, summarise_cohort
from homnet.report.tables import (
    ablation_markdown,
    drill_markdown,
    sweep_markdown,
    tables_markdown,
    throughput_markdown,
)

__all__ = [
    "Example",
    "Report",
    "ablation_markdown",
    "draw_examples",
    "drill_markdown",
    "load_markdown",
    "serve_drill_markdown",
    "summarise_cohort",
    "sweep_markdown",
    "tables_markdown",
    "throughput_markdown",
    "write_report",
]
