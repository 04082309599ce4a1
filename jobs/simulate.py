"""Simulates a cohort: healthy people and the patients of four hospitals, as the paper has them.

A run that was killed continues with the same command. --images also draws every chromosome
and lists the images in a manifest that jobs/ingest.py reads.
"""

import time
from collections.abc import Mapping

from homnet_platform.job import run_job
from homnet_platform.memory import gib, peak_memory
from homnet_platform.simulate import SimulateConfig, blocks, groups, simulate, staging_of


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
    """Simulates the cohort, says what it holds, and records what it took."""
    # What an earlier run made was not measured by this one.
    continued = staging_of(config).root.exists() or config.output.exists()
    begin_s = time.monotonic()
    with peak_memory() as memory:
        cohort = simulate(config)
    seconds = time.monotonic() - begin_s
    print(
        f"cohort: {config.output} ({cohort.num_pairs} pairs of homologs, {cohort.num_patients} "
        f"people, {len(cohort.files)} files)"
    )
    if config.images is not None:
        print(f"images: {config.images / 'manifest.csv'}")
    config.record.write(
        {
            "pairs": cohort.num_pairs,
            "people": cohort.num_patients,
            "files": len(cohort.files),
            "fingerprint": cohort.fingerprint,
            "seconds": round(seconds, 1),
            "bytes_on_disk": sum(
                (cohort.root / entry.path).stat().st_size for entry in cohort.files
            ),
            "peak_memory_gib": gib(memory.peak_bytes),
            "continued": continued,
            "with_images": config.images is not None,
        },
        recipe=f"scale {config.scale:g}",
        seed=config.seed,
    )


if __name__ == "__main__":
    run_job(SimulateConfig, main, description=__doc__, facts=facts)
