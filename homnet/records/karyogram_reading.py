"""What is read from karyograms that are made of real chromosomes of known type.

The cells of real people are laid out as the common systems print them, with touching homologs,
numbers and clutter, and read again. A chromosome is right if its box and its type are; wrong if it
is used with another type, or if what is used as one chromosome is something else.

Shape suffixes: H rows, W columns.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
import pandas as pd

from homnet.errors import ConfigError, DataError
from homnet.imaging.blobs import resized
from homnet.imaging.extraction import ExtractionConfig, extract
from homnet.imaging.karyogram import UM_PER_PX, FoundChromosome, Karyogram, find_chromosomes
from homnet.imaging.layouts import LAYOUTS
from homnet.imaging.orientation import profiles
from homnet.imaging.page_parts import Box
from homnet.imaging.reading import page_of, read_grey
from homnet.report.markdown import markdown_table
from homnet.results import Record
from homnet.seeding import generator
from homnet.simulator.karyograms import (
    CLUTTER,
    ChromosomeImage,
    KaryogramStyle,
    draw_karyogram,
)

_WIDTHS_PX: Final = (700, 1600, 4000)
_FONTS: Final = ("", "DejaVuSans", "DejaVuSans-Bold", "STIXGeneral")
"""Fonts of the numbers: Pillow's own, and some of matplotlib."""
_SAME: Final = 0.6
"""Intersection over union of two boxes of one chromosome."""
_OTHER: Final = 0.3


@dataclass(frozen=True)
class KaryogramReadingConfig:
    """Whose chromosomes are laid out, and how often."""

    manifest: Path
    """CSV of real images (path, patient_id, cell_id, chromosome, homolog)."""
    num_karyograms: int = 120
    """Number of karyograms."""
    held_out: float = 0.44
    """Share of the people whose cells are used."""
    touching: float = 0.2
    """Share of the pairs whose homologs touch."""
    seed: int = 0
    """Seed of the choice of people, cells and styles."""
    record: Record = Record()
    """The result of record."""

    def __post_init__(self) -> None:
        if self.num_karyograms < 1:
            raise ConfigError("num_karyograms must be at least 1")


def measure_reading(config: KaryogramReadingConfig) -> dict[str, Any]:
    """Lays out and reads karyograms.

    Returns:
        Shares of right, wrong and left-out chromosomes with their numbers, in all and by touching,
        width and numbers; reasons; correlations of profiles; seconds of CPU per karyogram.
    """
    rows = pd.read_csv(config.manifest, dtype=str)
    people = np.array(sorted(rows["patient_id"].unique()))
    draw = generator(config.seed, "karyogram reading")
    chosen = draw.permutation(people)[: max(1, round(config.held_out * len(people)))]
    cells = [
        cell for _, cell in rows[rows["patient_id"].isin(chosen)].groupby(["patient_id", "cell_id"])
    ]
    order = draw.permutation(len(cells))
    found: list[dict[str, Any]] = []
    reasons: Counter[str] = Counter()
    seconds, correlations = [], []
    for number in range(config.num_karyograms):
        cell = cells[order[number % len(cells)]]
        images = [
            ChromosomeImage(
                str(row["chromosome"]),
                int(row["homolog"]),
                read_grey(config.manifest.parent / str(row["path"]), max_side_px=1024),
            )
            for row in cell.to_dict("records")
        ]
        style = _style(draw, config.touching)
        drawn = draw_karyogram(images, style, draw)
        begin_s = time.process_time()
        try:
            karyogram = find_chromosomes(page_of(drawn.image))
            outcomes = _outcomes(karyogram, drawn.truth)
        except DataError as error:
            outcomes = [("left out", str(error), None)] * len(images)
        seconds.append(time.process_time() - begin_s)
        for (outcome, reason, one), image, touching in zip(
            outcomes, images, drawn.truth["touching"], strict=True
        ):
            found.append(
                {
                    "outcome": outcome,
                    "touching": "touching" if touching else "apart",
                    "width": f"{style.width_px} pixels across",
                    "numbers": "without numbers" if style.labels == "none" else "with numbers",
                }
            )
            reasons.update([reason.split(":")[0]] if outcome == "left out" else [])
            if one is not None:
                zoom = 1 / (drawn.px_per_um * UM_PER_PX)
                correlations.append(_correlation(resized(one.image_HW, zoom), image.image_HW))
    frame = pd.DataFrame(found)
    values = np.array([value for value in correlations if value is not None])
    return {
        "karyograms": config.num_karyograms,
        "people": len(chosen),
        "all": _shares(frame),
        **{
            str(name): _shares(part)
            for column in ("touching", "width", "numbers")
            for name, part in frame.groupby(column)
        },
        "reasons": dict(reasons.most_common()),
        "profile_correlation": {
            "median": float(np.median(values)),
            "mean": float(values.mean()),
            "p5": float(np.percentile(values, 5)),
        },
        "cpu_seconds": {
            "median": float(np.median(seconds)),
            "p95": float(np.percentile(seconds, 95)),
            "most": float(np.max(seconds)),
        },
    }


def karyogram_reading_markdown(figures: Mapping[str, Any]) -> str:
    """The figures as a table."""
    rows = [
        [
            name,
            f"{part['right']:.3f}",
            f"{part['wrong']:.4f}",
            f"{part['left out']:.3f}",
            str(part["chromosomes"]),
        ]
        for name, part in figures.items()
        if isinstance(part, Mapping) and "right" in part
    ]
    table = markdown_table(["Chromosomes", "Right", "Wrong", "Left out", "Number"], rows)
    correlation, seconds = figures["profile_correlation"], figures["cpu_seconds"]
    return (
        f"{table}\n\n{figures['karyograms']} karyograms of {figures['people']} people. Correlation "
        f"of the profiles with those of the single images: median {correlation['median']:.3f}, "
        f"mean {correlation['mean']:.3f}. Seconds of one core per karyogram: median "
        f"{seconds['median']:.1f}, 95 % below {seconds['p95']:.1f}, most {seconds['most']:.1f}."
    )


def _style(draw: np.random.Generator, touching: float) -> KaryogramStyle:
    """A style that some system might have."""
    clutter = draw.choice(len(CLUTTER), int(draw.integers(4)), replace=False)
    font = _FONTS[int(draw.integers(len(_FONTS)))]
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    labels: Any = ("below", "below", "above", "none")[int(draw.integers(4))]
    align: Any = ("bottom", "centre", "top")[int(draw.integers(3))]
    return KaryogramStyle(
        layout=LAYOUTS[int(draw.integers(len(LAYOUTS)))],
        width_px=int(draw.choice(_WIDTHS_PX)),
        labels=labels,
        font=str(folder / f"{font}.ttf") if font else None,
        label_px=float(draw.uniform(11, 18)),
        align=align,
        justified=bool(draw.random() < 0.7),
        clutter=tuple(CLUTTER[at] for at in clutter),
        touching=touching,
        overlap_px=(0.0, 3.0),
        ground=int(draw.choice((255, 245, 230))),
        colour=bool(draw.random() < 0.4),
    )


def _outcomes(
    karyogram: Karyogram, truth: pd.DataFrame
) -> list[tuple[str, str, FoundChromosome | None]]:
    """For each chromosome: right, wrong or left out, the reason, and what was found if right."""
    outcomes: list[tuple[str, str, FoundChromosome | None]] = []
    claimed: set[int] = set()
    for row in truth.to_dict("records"):
        box: Box = (row["top"], row["left"], row["bottom"], row["right"])
        shared = [_overlap(one.box, box) for one in karyogram.chromosomes]
        at = int(np.argmax(shared))
        best = karyogram.chromosomes[at]
        if shared[at] < _SAME:
            # Used as something that it is not, unless it was left out or not found at all.
            mistaken = shared[at] > _OTHER and not best.reason and at not in claimed
            outcomes.append(
                ("wrong" if mistaken else "left out", best.reason or "not found as itself", None)
            )
        elif best.reason:
            outcomes.append(("left out", best.reason, None))
        elif best.chromosome == row["chromosome"]:
            outcomes.append(("right", "", best))
        else:
            outcomes.append(("wrong", "", None))
        claimed.add(at)
    return outcomes


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(height, 0) * max(width, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / max(sum(areas) - shared, 1)


def _shares(frame: pd.DataFrame) -> dict[str, Any]:
    shares = frame["outcome"].value_counts(normalize=True)
    return {
        **{name: float(shares.get(name, 0.0)) for name in ("right", "wrong", "left out")},
        "chromosomes": len(frame),
    }


def _correlation(one_HW: Any, other_HW: Any) -> float | None:
    """Correlation of the profiles of two images; None if one cannot be measured."""
    sequences: Sequence[Any] = [
        extract(image_HW, ExtractionConfig()).sequence_CL for image_HW in (one_HW, other_HW)
    ]
    if any(one is None for one in sequences):
        return None
    return float(np.asarray(np.corrcoef(profiles(np.stack(sequences), 100)))[0, 1])
