"""The report of an evaluation: one HTML page without external parts, and Markdown tables."""

from homnet.report.comparison import ablation_beside_paper, comparison_markdown
from homnet.report.comparison_plots import draw_comparison, draw_running_time
from homnet.report.figures import Example
from homnet.report.page import Report, write_report
from homnet.report.running_time import running_time_markdown
from homnet.report.serve_tables import load_markdown, serve_drill_markdown
from homnet.report.summary import draw_examples, summarise_cohort
from homnet.report.tables import (
    ablation_markdown,
    aucs_markdown,
    drill_markdown,
    sweep_markdown,
    tables_markdown,
    throughput_markdown,
)

__all__ = [
    "Example",
    "Report",
    "ablation_beside_paper",
    "ablation_markdown",
    "aucs_markdown",
    "comparison_markdown",
    "draw_comparison",
    "draw_examples",
    "draw_running_time",
    "drill_markdown",
    "load_markdown",
    "running_time_markdown",
    "serve_drill_markdown",
    "summarise_cohort",
    "sweep_markdown",
    "tables_markdown",
    "throughput_markdown",
    "write_report",
]
