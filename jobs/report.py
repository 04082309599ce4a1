"""Writes the report on an evaluation: a self-contained HTML page."""

from homnet_platform.job import run_job
from homnet_platform.reporting import ReportConfig, report

if __name__ == "__main__":
    run_job(ReportConfig, report, description=__doc__)
