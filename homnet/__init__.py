"""HomNet: structural chromosome abnormalities from pairs of homologous chromosomes.

The science of the platform: cohorts, extraction, simulation, artificial abnormalities, the model,
training steps, prediction and metrics. Nothing in this package knows Ray.
"""

from typing import Final

__version__ = "0.1.0"
PROGRAM: Final = 2
"""Raise it when the same input, settings and seed give another result: what is measured on an
image, which bags are drawn, what a verdict says. Interrupted runs, and measurements that a
diagnosis kept, are not continued by another program. Checkpoints and cohorts stay readable."""
