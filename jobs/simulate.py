"""Simulates a cohort: healthy people and the patients of four hospitals, as the paper has them."""

from collections.abc import Mapping

from homnet_platform.job import run_job
from homnet_platform.simulate import SimulateConfig, blocks, groups, simulate


def facts(config: SimulateConfig) -> Mapping[str, object]:
    """What the cohort will hold."""
    pairs = int(sum(group.expected_pairs for group in groups(config)))
    return {
        "people": {group.hospital.name: group.num_people for group in groups(config)},
        "pairs (about)": pairs,
        "files": len(blocks(config)),
        "size in memory (about)": f"{pairs * 2048 / 1e6:.0f} MB",
    }


def main(config: SimulateConfig) -> None:
    """Simulates the cohort and says what it holds."""
    cohort = simulate(config)
    print(
        f"cohort: {config.output} ({cohort.num_pairs} pairs of homologs, {cohort.num_patients} "
        f"people, {len(cohort.files)} files)"
    )


if __name__ == "__main__":
    run_job(SimulateConfig, main, description=__doc__, facts=facts)
