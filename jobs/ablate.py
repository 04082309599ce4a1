"""Takes HomNet apart: the paper's Table 4, every variant with several seeds, side by side.

python jobs/ablate.py best --cohort cohorts/simulated --output runs/ablate
"""

from homnet.report import ablation_markdown
from homnet_platform.ablation import AblateConfig, ablate
from homnet_platform.ablation_recipes import RECIPES
from homnet_platform.comparison import refuse_failed
from homnet_platform.job import run_job


def main(config: AblateConfig) -> None:
    """Runs all variants and prints the table; those that failed are named in the end."""
    figures = ablate(config)
    print(ablation_markdown(figures))
    refuse_failed(figures)


if __name__ == "__main__":
    run_job(RECIPES, main, description=__doc__)
