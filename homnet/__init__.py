"""HomNet: structural chromosome abnormalities from pairs of homologous chromosomes.

The science of the platform: cohorts, extraction, simulation, artificial abnormalities, the model,
training steps, prediction and metrics. Nothing in this package knows Ray.
"""

__version__ = "0.1.0"
