"""The whole line on simulated people, from a simulation to verdicts and a report.

Pre-trains briefly, fine-tunes the shipped model, calibrates, gives verdicts and evaluates.

Sizes are those of a laptop; the last line is the path of the report. An interrupted demonstration
starts anew.
"""

import os

from homnet_platform.demo import DemoConfig, demonstrate
from homnet_platform.job import run_job


def main(config: DemoConfig) -> None:
    """Runs the demonstration and prints the path of its report."""
    print(os.path.relpath(demonstrate(config)))


if __name__ == "__main__":
    run_job(DemoConfig, main, description=__doc__)
