"""Reads and measures the karyograms of a request, one picture at a time."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from homnet.errors import DataError
from homnet.imaging.cells import Cell
from homnet.imaging.cutting import corrected, cut_out
from homnet.imaging.extraction import ExtractionConfig
from homnet.imaging.karyogram import FoundChromosome, Karyogram, find_chromosomes
from homnet.imaging.manifest import CHROMOSOME_KEY, UNKNOWN_LEVEL
from homnet.imaging.pairing import files_of_pairs
from homnet.imaging.reading import Page
from homnet_serve.archives import ImagesOfBody, measured
from homnet_serve.config import Limits
from homnet_serve.errors import given_up, invalid
from homnet_serve.karyogram_zips import CORRECTIONS, Pictures
from homnet_serve.schemas import (
    BoxOnPicture,
    ChromosomeOnPicture,
    Corrected,
    KaryogramOfCell,
    LeftOut,
    NotedChromosome,
    PictureRead,
)

_PREVIEW_PX: Final = 1600
"""Largest side of a preview."""


def describe_picture(pictures: Pictures, name: str, *, preview: bool) -> PictureRead:
    """Says what is found on a picture.

    Args:
        pictures: the zip.
        name: of the picture.
        preview: whether to include the picture itself.

    Raises:
        RequestError: the picture cannot be unpacked.
    """
    about = PictureRead(picture=name, reason="")
    try:
        page = pictures.page(name)
        about.height, about.width = page.grey_HW.shape
        if preview:
            about.preview = _preview(page)
        karyogram = find_chromosomes(page, pictures.layout)
    except DataError as error:
        about.reason = str(error)
        return about
    about.layout = karyogram.layout.name
    about.px_per_um, about.scale = round(karyogram.scale.px_per_um, 4), karyogram.scale.source
    about.band_level = karyogram.band_level
    about.chromosomes = [
        _described(number, one) for number, one in enumerate(karyogram.chromosomes, start=1)
    ]
    return about


def _described(number: int, one: FoundChromosome) -> ChromosomeOnPicture:
    top, left, bottom, right = one.box
    return ChromosomeOnPicture(
        number=number,
        chromosome=one.chromosome,
        homolog=None if one.reason else one.homolog,
        probability=round(one.probability, 4),
        box=BoxOnPicture(left=left, top=top, right=right, bottom=bottom),
        outline=[(round(float(column), 1), round(float(row), 1)) for row, column in one.outline_K2],
        flags=list(one.flags),
        reason=one.reason,
        correctable=one.is_one,
    )


def _preview(page: Page) -> str:
    image = Image.fromarray(page.grey_HW)
    image.thumbnail((_PREVIEW_PX, _PREVIEW_PX), Image.Resampling.BOX)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=85)
    return base64.b64encode(content.getvalue()).decode()


@dataclass(frozen=True)
class CutPicture:
    """The chromosomes of a picture at the common scale, after corrections."""

    reason: str
    """Why the picture is refused; empty if it was read."""
    used: Mapping[int, FoundChromosome]
    """Chromosomes that are used, by number, with their images at that scale."""
    left_out: Sequence[LeftOut] = ()
    corrected: Sequence[Corrected] = ()


def cut_picture(pictures: Pictures, name: str, px_per_um: float | None) -> CutPicture:
    """Reads a picture, corrects what was read, and cuts the chromosomes out.

    Args:
        pictures: the zip.
        name: of the picture.
        px_per_um: pixels of the picture per micrometre; None takes what the picture says.

    Raises:
        RequestError: the picture cannot be unpacked, or a correction does not fit it.
    """
    corrections = pictures.corrections.get(name, {})
    begin = f"{CORRECTIONS}: picture {name[:100]!r}"
    try:
        read = find_chromosomes(pictures.page(name), pictures.layout)
    except DataError as error:
        if corrections:
            raise invalid(f"{begin} cannot be read: {error}; correct nothing on it") from None
        return CutPicture(str(error), {})
    try:
        karyogram = corrected(read, {at: one.chromosome for at, one in corrections.items()})
    except DataError as error:
        raise invalid(f"{begin}: {error}; correct another one") from None
    changes = []
    for at, one in sorted(corrections.items()):
        before = _type_of(read, at)
        if one.before not in (None, before):
            raise invalid(
                f"{begin}: number {at} is read as {before or 'left out'!r} now, not as "
                f"{one.before or 'left out'!r}; ask /v1/karyograms again"
            )
        changes.append(Corrected(number=at, before=before, chromosome=one.chromosome))
    try:
        karyogram, images = cut_out(karyogram, px_per_um)
    except DataError as error:
        return CutPicture(str(error), {})
    return CutPicture(
        "",
        {
            at: replace(karyogram.chromosomes[at - 1], image_HW=image)
            for at, image in images.items()
        },
        [
            LeftOut(number=at, chromosome=one.chromosome, reason=one.reason)
            for at, one in enumerate(karyogram.chromosomes, start=1)
            if one.reason
        ],
        changes,
    )


def _type_of(karyogram: Karyogram, number: int) -> str:
    """Type as which a chromosome is used; empty if it is left out."""
    one = karyogram.chromosomes[number - 1]
    return "" if one.reason else one.chromosome


def measure_karyograms(
    cells: Sequence[Cell],
    cut: Mapping[str, CutPicture],
    configs: Mapping[str, ExtractionConfig],
    limits: Limits,
    stopped: Callable[[], bool],
) -> ImagesOfBody:
    """Measures the chromosomes of karyograms as images with a manifest are measured.

    Args:
        cells: the cells that the pictures show.
        cut: their chromosomes, by the picture's name.
        configs: how the chromosomes of each hospital are measured.
        limits: bounds on the request.
        stopped: called before every chromosome; returns True if the request was abandoned.

    Raises:
        RequestError: no chromosome can be used, the pairs exceed a limit, or ``stopped`` returned
            True.
    """
    rows = pd.DataFrame(
        [
            {
                **cell,
                "path": f"{cell['path']}, number {number}",
                "row": number,
                "picture": cell["path"],
                "band_level": int(cell["band_level"] or UNKNOWN_LEVEL),
                "chromosome": one.chromosome,
                "homolog": one.homolog,
                "abnormal": False,
                "kind": "",
            }
            for cell in cells
            for number, one in cut[cell["path"]].used.items()
        ]
    )
    if rows.empty:
        name = cells[0]["path"]
        reason = cut[name].reason or "all its chromosomes are left out"
        raise invalid(f"body: no picture can be used; {name[:100]!r}: {reason}")
    image_of = {
        f"{name}, number {number}": one.image_HW
        for name, picture in cut.items()
        for number, one in picture.used.items()
    }

    def open_image(row: Mapping[str, Any]) -> NDArray[np.uint8]:
        if stopped():
            raise given_up()
        return image_of[row["path"]]

    rows = rows.sort_values([*CHROMOSOME_KEY, "homolog"], ignore_index=True)
    images, table = measured(rows, open_image, configs, limits, "{path}", on_karyogram=True)
    karyograms: dict[tuple[str, str], list[KaryogramOfCell]] = {}
    for cell in cells:
        own = images[images["picture"] == cell["path"]]
        karyograms.setdefault((cell["hospital"], cell["patient_id"]), []).append(
            _became(cell, cut[cell["path"]], own)
        )
    return ImagesOfBody(
        table,
        karyograms=karyograms,
        image_of=image_of.__getitem__,
        files=files_of_pairs(images),
    )


def _became(cell: Cell, cut: CutPicture, images: pd.DataFrame) -> KaryogramOfCell:
    """What became of a karyogram whose chromosomes were measured."""
    unusable = [
        LeftOut(number=one["row"], chromosome=one["chromosome"], reason=one["reason"])
        for one in images[images["reason"] != ""].to_dict("records")
    ]
    noted = images[(images["reason"] == "") & (images["note"] != "")]
    return KaryogramOfCell(
        picture=cell["path"],
        cell_id=cell["cell_id"],
        reason=cut.reason,
        left_out=sorted([*cut.left_out, *unusable], key=lambda one: one.number),
        corrected=list(cut.corrected),
        noted=[
            NotedChromosome(number=one["row"], note=one["note"]) for one in noted.to_dict("records")
        ],
    )
