"""What becomes of real images that were treated as people and programs treat them.

An image is accepted, or refused with a reason, such as a width that its cell does not have. An
accepted one is wrong if its profile, the mean of both chromatids, correlates below 0.9 with that of
the image before the treatment, both stretched to one length.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from homnet.errors import ConfigError
from homnet.imaging.extraction import Extraction, ExtractionConfig
from homnet.imaging.pairing import MAX_WIDTH, measure_image
from homnet.imaging.reading import read_grey
from homnet.report.markdown import markdown_table
from homnet.results import Record

Grey = NDArray[np.uint8]
Treated = tuple[Grey | bytes, Grey]
"""The treated image, or a file of it, and the image whose profile is right."""
Treatment = Callable[[Grey, np.random.Generator], Treated]
_LARGER: Final = "twice as large"
_INVERSE: Final = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
"""Transposition of Pillow that an EXIF orientation undoes."""


@dataclass(frozen=True)
class TreatedImagesConfig:
    """Images and number of treatments."""

    manifest: Path
    """CSV of real images, dark on white (columns path, patient_id and cell_id)."""
    num_images: int = 100
    """Number of images for each treatment."""
    num_untouched: int = 20_000
    """Number of images measured as they are."""
    seed: int = 0
    """Seed of the choice of images and of the treatments."""
    record: Record = Record()
    """The result of record."""

    def __post_init__(self) -> None:
        if min(self.num_images, self.num_untouched) < 1:
            raise ConfigError("num_images and num_untouched must be at least 1")


def _levels(values: NDArray[Any]) -> Grey:
    levels: Grey = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels


def _mask(image: Grey, grown_px: int) -> NDArray[np.bool_]:
    parts, _ = ndimage.label(ndimage.binary_fill_holes(image < 215), np.ones((3, 3)))
    mask = parts == np.bincount(parts[parts > 0], minlength=2).argmax()
    return ndimage.binary_dilation(mask, np.ones((3, 3), bool), grown_px) if grown_px else mask


def _tight(image: Grey) -> Grey:
    rows, columns = ndimage.find_objects(_mask(image, 0).astype(int))[0]
    return image[rows, columns]


def _jpeg(image: Grey) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=75)
    return file.getvalue()


def _inverted(image: Grey, rng: np.random.Generator) -> Treated:
    return _levels(rng.uniform(0, 60) + rng.uniform(0.6, 1.5) * (255.0 - image)), image


def _cut_out(most_level: int, *grown_px: int) -> Treatment:
    def treat(image: Grey, rng: np.random.Generator) -> Treated:
        mask = _mask(image, int(rng.choice(grown_px)))
        return np.where(mask, image, np.uint8(rng.integers(most_level + 1))), image

    return treat


def _rotated(low: int, high: int, *, whole: bool, ground: float = 1.0) -> Treatment:
    def treat(image: Grey, rng: np.random.Generator) -> Treated:
        degrees, level = rng.uniform(5, 85) * rng.choice([-1, 1]), int(rng.integers(low, high + 1))
        canvas = Image.fromarray(_levels(ground * image))
        treated, right = (
            np.asarray(canvas.rotate(degrees, Image.Resampling.BICUBIC, whole, fillcolor=fill))
            for fill in (level, round(ground * 255))
        )
        return treated, right

    return treat


def _framed(low: int, high: int, *, over: bool = False, margin_px: int = 0) -> Treatment:
    def treat(image: Grey, rng: np.random.Generator) -> Treated:
        width_px = int(rng.integers(1, 6))
        inner = image[width_px:-width_px, width_px:-width_px] if over else image
        framed = np.pad(inner, width_px, constant_values=rng.integers(low, high + 1))
        return np.pad(framed, margin_px, constant_values=255), inner

    return treat


def _after(first: Callable[[Grey], Grey], then: Treatment) -> Treatment:
    return lambda image, rng: then(first(image), rng)


def _as_jpeg(treatment: Treatment) -> Treatment:
    def treat(image: Grey, rng: np.random.Generator) -> Treated:
        treated, right = treatment(image, rng)
        assert not isinstance(treated, bytes)
        return _jpeg(treated), right

    return treat


def _tight_on_black(image: Grey, _: np.random.Generator) -> Treated:
    mask = _mask(image, 1)
    rows, columns = ndimage.find_objects(mask.astype(int))[0]
    return np.where(mask, image, np.uint8(0))[rows, columns], image


def _in_white_margin(treatment: Treatment) -> Treatment:
    def treat(image: Grey, rng: np.random.Generator) -> Treated:
        treated, right = treatment(image, rng)
        assert not isinstance(treated, bytes)
        return np.pad(treated, int(rng.integers(3, 20)), constant_values=255), right

    return treat


def _turned_by_exif(image: Grey, rng: np.random.Generator) -> Treated:
    orientation, file, exif = int(rng.integers(2, 9)), io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(image).transpose(Image.Transpose(_INVERSE[orientation]))
    stored.save(file, str(rng.choice(["PNG", "JPEG", "TIFF"])), exif=exif)
    return file.getvalue(), image


def _transparent(image: Grey, _: np.random.Generator) -> Treated:
    file, opaque = io.BytesIO(), _mask(image, 2)
    shown = np.where(opaque, image, 0).astype(np.uint8)
    alpha = Image.fromarray(_levels(255 * opaque))
    Image.merge("LA", (Image.fromarray(shown), alpha)).save(file, "PNG")
    return file.getvalue(), image


def _beside(image: Grey) -> Grey:
    """The image and itself, upside down, on white."""
    gap = np.full((len(image), 3), 255, np.uint8)
    return np.pad(np.hstack([image, gap, image[::-1]]), 4, constant_values=255)


TREATMENTS: Final[Mapping[str, Treatment]] = {
    "light on dark": _inverted,
    "light on dark, cropped tightly": _after(_tight, _inverted),
    "light on dark, noise": lambda image, rng: (
        _levels(np.asarray(_inverted(image, rng)[0]) + rng.normal(0, 5, image.shape)),
        image,
    ),
    "light on dark, in a white margin": _in_white_margin(_inverted),
    "light on dark, cropped tightly, in a white margin": _in_white_margin(
        _after(_tight, _inverted)
    ),
    "cut out on black, cropped tightly, in a white margin": _in_white_margin(_tight_on_black),
    "cut out on black": _cut_out(0, 0, 1, 2),
    "cut out on black, JPEG": _as_jpeg(_cut_out(0, 0, 1, 2)),
    "cut out on dark grey": _cut_out(100, 0, 1, 2),
    "cut out on dark grey, with a margin of 4 pixels": _cut_out(100, 4),
    "rotated, black corners": _rotated(0, 0, whole=True),
    "rotated, black corners, JPEG": _as_jpeg(_rotated(0, 0, whole=True)),
    "rotated in its frame, black corners": _rotated(0, 0, whole=False),
    "rotated, grey corners": _rotated(20, 180, whole=True),
    "cropped tightly and rotated, black corners": _after(_tight, _rotated(0, 0, whole=True)),
    "grey ground, rotated, white corners": _rotated(255, 255, whole=True, ground=0.6),
    "black frame": _framed(0, 0),
    "grey frame": _framed(50, 200),
    "black frame drawn over the image": _framed(0, 0, over=True),
    "black frame around a tight crop": _after(_tight, _framed(0, 0)),
    "black frame in a white margin": _framed(0, 0, margin_px=3),
    "another chromosome beside it": lambda image, _: (np.hstack([image, image[::-1]]), image),
    "another chromosome beside it, 3 pixels away": lambda image, _: (_beside(_tight(image)), image),
    "turned, with EXIF orientation": _turned_by_exif,
    "transparent ground, black below": _transparent,
    "tight crop": lambda image, _: (_tight(image), image),
    "grey ground": lambda image, rng: (_levels(rng.uniform(0.5, 0.9) * image), image),
    "low contrast": lambda image, _: (_levels(255 - 0.3 * (255.0 - image)), image),
    "JPEG": lambda image, _: (_jpeg(image), image),
    "noise": lambda image, rng: (_levels(image + rng.normal(0, 3, image.shape)), image),
    _LARGER: lambda image, _: (
        _levels(ndimage.zoom(image.astype(float), 2, order=1)),
        image,
    ),
}


def measure_treatments(config: TreatedImagesConfig) -> dict[str, Any]:
    """Measures all treatments.

    Returns:
        A row for each treatment, untouched images first: number of ``images``, ``accepted`` ones
        and, among these, ``wrong`` ones.
    """
    rng = np.random.default_rng(config.seed)
    frame = pd.read_csv(config.manifest, dtype=str)
    frame = frame.iloc[rng.permutation(len(frame))[: config.num_untouched]]
    images = [read_grey(config.manifest.parent / path, max_side_px=1024) for path in frame["path"]]
    measured = [_measured(image) for image in images]
    frame["width_px"] = [one.width_px for one in measured]
    usual = frame.groupby(["patient_id", "cell_id"])["width_px"].transform("median")
    names = ["untouched", *TREATMENTS]
    rows = {name: {"name": name, "images": 0, "accepted": 0, "wrong": 0} for name in names}
    for number, (image, own, usual_px) in enumerate(zip(images, measured, usual, strict=True)):
        # One that is too wide as it is would show nothing of what a treatment does.
        is_read = own.sequence_CL is not None and not own.width_px > MAX_WIDTH * usual_px
        _count(rows["untouched"], own, own, usual_px)
        if number < config.num_images and is_read:
            for name, treatment in TREATMENTS.items():
                treated, right = treatment(image, rng)
                # A cell is enlarged as a whole; all other treatments keep the width.
                scale = 2.0 if name == _LARGER else 1.0
                right_is = own if right is image else _measured(right)
                _count(rows[name], _measured(treated), right_is, scale * usual_px)
    return {"rows": list(rows.values())}


def treated_images_markdown(figures: Mapping[str, Any]) -> str:
    """The figures as a Markdown table."""
    return markdown_table(
        ("Images", "Number", "Refused", "Accepted", "Accepted and wrong"),
        [
            (one["name"], one["images"], one["images"] - one["accepted"], *_both(one))
            for one in figures["rows"]
        ],
    )


def _both(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["accepted"], row["wrong"]


def _measured(image: Grey | bytes) -> Extraction:
    file = io.BytesIO(image) if isinstance(image, bytes) else io.BytesIO()
    if not isinstance(image, bytes):
        Image.fromarray(image).save(file, "PNG")
    # Images that were enlarged may be twice as long.
    return measure_image(file, 0, ExtractionConfig(samples_per_px=1.5))


def _count(row: dict[str, Any], found: Extraction, right: Extraction, usual_px: float) -> None:
    row["images"] += 1
    if found.sequence_CL is not None and not found.width_px > MAX_WIDTH * usual_px:
        row["accepted"] += 1
        row["wrong"] += right.sequence_CL is None or bool(
            np.corrcoef(_profile(found), _profile(right))[0, 1] < 0.9
        )


def _profile(found: Extraction) -> NDArray[np.float64]:
    assert found.sequence_CL is not None
    profile = found.sequence_CL[:, : len(found.axis_A2)].mean(axis=0)
    places, own = np.linspace(0, 1, 100), np.linspace(0, 1, len(profile))
    stretched: NDArray[np.float64] = np.interp(places, own, profile)
    return stretched
