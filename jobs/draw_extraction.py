"""Draws docs/extraction.png: chromosomes of the simulator as images, with the axis found in them.

The drawn chromosomes are bent, some have their chromatids split; a ring, a crossing, an empty image
and a U-bend show what is refused or flagged.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homnet.cohorts.pairs import pairs_of
from homnet.imaging.contact_sheet import contact_sheet
from homnet.imaging.extraction import ExtractionConfig, extract
from homnet.karyotype.chromosomes import ACROCENTRICS
from homnet.simulator.cohort import simulate_person
from homnet.simulator.drawing import centre_line, draw_chromosome
from homnet.simulator.laboratory import hospitals
from homnet_platform.job import run_job

Image = NDArray[np.uint8]
SAMPLES_PER_PX = 3.0


@dataclass(frozen=True)
class DrawConfig:
    """The contact sheet."""

    output: Path = Path("docs/extraction.png")
    """The picture."""
    seed: int = 11
    """Of the person, the bends and the noise."""


def main(config: DrawConfig) -> None:
    """Simulates one cell, draws it, extracts it, and saves the contact sheet."""
    rng = np.random.default_rng(config.seed)
    table = simulate_person(config.seed, hospitals()[0], 3, 2.0)
    images: list[Image] = []
    titles: list[str] = []
    for pair_PCL, chromosome in zip(pairs_of(table), table["chromosome"].to_pylist(), strict=True):
        if titles.count(chromosome) >= 2 or not pair_PCL[1].any():
            continue
        for sequence_CL in pair_PCL:
            images.append(_draw(sequence_CL, chromosome, rng))
            titles.append(chromosome)
    for title, image in _unusual(rng).items():
        images.append(image)
        titles.append(title)
    figure = contact_sheet(
        images, [extract(image, ExtractionConfig()) for image in images], titles=titles
    )
    config.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(config.output, dpi=80)
    print(f"contact sheet: {config.output}")


def _draw(sequence_CL: Image, chromosome: str, rng: np.random.Generator) -> Image:
    length = int((sequence_CL[0] > 0).sum())
    half_width_px = rng.uniform(6.0, 8.5)
    # Longer chromosomes bend more; one in four strongly.
    slender = min(3.0, max(length / SAMPLES_PER_PX / half_width_px - 3.0, 0.0))
    turn = (
        rng.normal(0, 0.08) * slender if rng.random() < 0.75 else rng.uniform(-0.35, 0.35) * slender
    )
    heading = turn * (np.clip(np.linspace(-0.3, 1.3, length), 0, 1) - 0.5)
    centromere = 0.2 if chromosome in ACROCENTRICS else 0.38
    place = np.arange(length)
    waist = 1 - 0.3 * np.exp(-(((place - centromere * length) / 9) ** 2))
    gap_px = rng.choice([0.0, 0.0, 0.0, 2.5]) * (place > (centromere + 0.15) * length)
    return draw_chromosome(
        np.clip(sequence_CL[:, :length].astype(float), 1, 235),
        centre_line(heading, 1 / SAMPLES_PER_PX),
        half_width_px * waist,
        samples_per_px=SAMPLES_PER_PX,
        generator=rng,
        gap_px=gap_px,
        blur_sigma_px=0.8,
        noise_sd=2,
        margin_px=5,
    ).image_HW


def _unusual(rng: np.random.Generator) -> dict[str, Image]:
    row, column = np.indices((70, 70)) - 35
    radius = np.hypot(row, column)
    bands = 120 + 60 * np.sin(np.arctan2(row, column) * 7)
    ring = np.where((radius > 14) & (radius < 26), bands, 255)
    down, across = np.abs(np.indices((90, 80)) - 40)
    cross = ((down < 6) & (across < 36)) | ((across < 6) & (down < 38))
    length = 330
    heading = np.clip(np.linspace(-2.9, 2.9, length), -1.5, 1.5)
    bend = draw_chromosome(
        120 + 50 * np.sin(np.arange(2 * length).reshape(2, length) / 13),
        centre_line(heading, 1 / SAMPLES_PER_PX),
        7.0,
        samples_per_px=SAMPLES_PER_PX,
        generator=rng,
        margin_px=5,
    ).image_HW
    return {
        "ring": ring.astype(np.uint8),
        "crossing": np.where(cross, 120 + 60 * np.sin((down + across) / 3), 255).astype(np.uint8),
        "empty": np.clip(rng.normal(246, 3, (70, 40)), 0, 255).astype(np.uint8),
        "U-bend": bend,
    }


if __name__ == "__main__":
    run_job(DrawConfig, main, description=__doc__)
