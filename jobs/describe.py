"""Describes a cohort: counts, quality, a whole cell and single pairs; or draws your own images.

python jobs/describe.py --cohort cohorts/mine
python jobs/describe.py --images mine/manifest.csv --output mine-checked

The second draws a sample of the images with the axis that was found in each, and the darkness of
both chromatids along it: what to look at before jobs/ingest.py reads thousands of them.
"""

import json
from dataclasses import dataclass, field

import numpy as np

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.summary import counts_table, summarise_cohort
from homnet.errors import ConfigError
from homnet.files import replacing, write_whole
from homnet.imaging.contact_sheet import sheet_of_manifest
from homnet.imaging.extraction import ExtractionConfig
from homnet.imaging.manifest import read_manifest
from homnet.locations import Location
from homnet.report.contents_page import render_contents
from homnet_platform.job import LocationOption, run_job


@dataclass(frozen=True)
class DescribeConfig:
    """What is described, and where its description goes."""

    cohort: LocationOption | None = None
    """Directory or URI of a cohort."""
    images: LocationOption | None = None
    """Manifest of images, as jobs/ingest.py reads it."""
    output: LocationOption | None = None
    """Folder for counts.json and cohort.html, or images.png; by default ``<name>-description``
    beside the cohort or the manifest's folder."""
    num_images: int = 60
    """Images to draw, a sample; at most those of the manifest."""
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)
    """How chromosomes are measured."""
    seed: int = 0
    """Of the choice of the cell, the pairs and the images."""

    def __post_init__(self) -> None:
        if (self.cohort is None) == (self.images is None):
            raise ConfigError("give either --cohort or --images, what is to be described")
        if self.num_images < 1:
            raise ConfigError(f"num_images is {self.num_images}; give at least 1")


def main(config: DescribeConfig) -> None:
    """Writes the pictures, and prints the counts of a cohort."""
    rng = np.random.default_rng(config.seed)
    if config.images is not None:
        rows = read_manifest(config.images, hospital="none", band_level=550)
        drawn = rows.sample(min(config.num_images, len(rows)), random_state=rng).sort_values("row")
        folder = config.images.resolve().parent
        figure = sheet_of_manifest(drawn, folder, config.extraction)
        output = _folder(config.output, folder)
        with replacing(output / "images.png") as temporary:
            figure.savefig(temporary, dpi=80, metadata={"Software": None})
        print(f"images drawn: {len(drawn)} of {len(rows)}, {output / 'images.png'}")
    if config.cohort is not None:
        cohort = Cohort.open(config.cohort)
        summary = summarise_cohort(cohort)
        counts = counts_table(summary)
        output = _folder(config.output, config.cohort.resolve())
        write_whole(output / "counts.json", json.dumps(summary, indent=1))
        page = write_whole(output / "cohort.html", render_contents(cohort, counts, rng))
        print(counts)
        print(f"description: {output / 'counts.json'}, {page}")


def _folder(output: Location | None, described: Location) -> Location:
    return output or described.with_name(f"{described.name}-description")


if __name__ == "__main__":
    run_job(DescribeConfig, main, description=__doc__)
