"""Takes HomNet apart: the paper's Table 4, every variant with several seeds, side by side.

python jobs/records/ablate.py best --cohort cohorts/simulated --output runs/ablate
"""

from homnet.records.training_tables import ablation_markdown
from homnet_platform.job import run_job
from homnet_platform.records.ablation import AblateConfig, ablate
from homnet_platform.records.ablation_recipes import RECIPES
from homnet_platform.records.side_by_side import refuse_failed


def main(config: AblateConfig) -> None:
    """Runs all variants and prints the table; those that failed are named in the end."""
    figures = ablate(config)
    print(ablation_markdown(figures))
    refuse_failed(figures)


if __name__ == "__main__":
    run_job(RECIPES, main, description=__doc__)
