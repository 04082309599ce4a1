"""Opens zips and forms of karyograms: one picture per cell, and what is said of them.

Beside the pictures they may hold ``cells.csv`` (whose cell each picture shows), ``layout.csv``
(how the laboratory arranges chromosomes) and ``corrections.json`` (types that a person corrected).
Reading is deterministic: corrections name chromosomes by their number on the picture.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from pydantic import ValidationError

from homnet.errors import DataError, ManifestError, ManifestTooLargeError
from homnet.files import unique_keys
from homnet.imaging.cells import BY_NAME, Cell, cells_of_list, cells_of_names, is_picture
from homnet.imaging.karyogram import read_picture
from homnet.imaging.layouts import Layout, read_layout
from homnet.imaging.manifest import nfc, normal_path
from homnet.imaging.reading import Page
from homnet_serve.archives import ZIP_TYPE, Archive, open_zip
from homnet_serve.bodies import sentence_of
from homnet_serve.config import Limits
from homnet_serve.errors import invalid, too_large
from homnet_serve.forms import FORM_TYPE, zip_of_form
from homnet_serve.schemas import Correction, Corrections

CELLS: Final = "cells.csv"
LAYOUT: Final = "layout.csv"
CORRECTIONS: Final = "corrections.json"
_BESIDE: Final = (CELLS, LAYOUT, CORRECTIONS)
_MAX_BYTES_BESIDE: Final = 2**20
"""Maximum size of each of these files."""
_MAX_FILES: Final = 3
"""Maximum number of files per picture: systems add hidden ones."""


@dataclass(frozen=True)
class Pictures:
    """The opened zip of a request."""

    archive: Archive
    names: tuple[str, ...]
    """Names of the pictures, sorted."""
    layout: Layout | None
    """Layout of the laboratory; None tries the common ones."""
    corrections: Mapping[str, Mapping[int, Correction]]
    """Corrections by picture and number."""
    limits: Limits

    @property
    def num_corrections(self) -> int:
        """Number of corrections of all pictures."""
        return sum(map(len, self.corrections.values()))

    def page(self, name: str) -> Page:
        """Decodes a picture.

        Raises:
            DataError: it is no picture, or too large.
            RequestError: it cannot be unpacked.
        """
        content = self.archive.read(name, self.limits.max_picture_bytes, "body")
        return read_picture(io.BytesIO(content))


def open_pictures(body: bytes, limits: Limits, content_type: str = ZIP_TYPE) -> Pictures:
    """Opens a zip or a form of karyograms, but decodes no picture.

    Args:
        body: the zip or form.
        limits: bounds on the request.
        content_type: its media type, with parameters.

    Raises:
        RequestError: the body is neither or is too large, holds no picture, or a file beside the
            pictures is wrong.
    """
    max_files = _MAX_FILES * limits.max_pictures
    if content_type.lower().startswith(FORM_TYPE):
        body = zip_of_form(body, content_type, max_files)
    archive = open_zip(body, max_files, limits, "pictures of karyograms")
    names = tuple(sorted(filter(is_picture, archive.files)))
    if not names:
        raise invalid("body: there is no picture in it; send a picture of each cell's karyogram")
    if len(names) > limits.max_pictures:
        raise too_large(
            f"body: {len(names)} pictures, at most {limits.max_pictures} at once; send fewer"
        )
    for name in archive.files:
        place = PurePosixPath(name)
        if place.name.lower() in _BESIDE and name not in _BESIDE and place.name[0] != ".":
            raise invalid(
                f"body: {name[:100]!r} is not read; send {place.name.lower()} outside any folder"
            )
    for name in names:
        if archive.files[name].file_size > limits.max_picture_bytes:
            raise too_large(
                f"body: {name[:100]!r} has more than {limits.max_picture_bytes} bytes; save it "
                "with fewer pixels"
            )
    return Pictures(archive, names, _layout(archive), _corrections(archive, names), limits)


def _layout(archive: Archive) -> Layout | None:
    if LAYOUT not in archive.files:
        return None
    try:
        return read_layout(Path(LAYOUT), archive.read(LAYOUT, _MAX_BYTES_BESIDE, LAYOUT))
    except DataError as error:
        raise invalid(str(error)) from None


def _corrections(archive: Archive, names: Sequence[str]) -> dict[str, dict[int, Correction]]:
    if CORRECTIONS not in archive.files:
        return {}
    content = archive.read(CORRECTIONS, _MAX_BYTES_BESIDE, CORRECTIONS)
    try:
        parsed = json.loads(content, object_pairs_hook=unique_keys)
        listed = Corrections.model_validate(parsed).root
    except ValidationError as error:
        raise invalid(sentence_of(error, CORRECTIONS)) from None
    except (ValueError, RecursionError) as error:
        raise invalid(f"{CORRECTIONS}: not readable JSON ({str(error)[:100]})") from None
    found: dict[str, dict[int, Correction]] = {}
    for place, one in enumerate(listed):
        name = normal_path(one.picture)
        if name not in names:
            raise invalid(f"{CORRECTIONS}: [{place}]: there is no picture {name[:100]!r}")
        if found.setdefault(name, {}).setdefault(one.number, one) is not one:
            raise invalid(
                f"{CORRECTIONS}: [{place}]: number {one.number} of {name[:100]!r} is corrected "
                "twice; correct it once"
            )
    return found


def cells_of_body(
    pictures: Pictures, *, hospital: str, patient_id: str, band_level: int | None
) -> list[Cell]:
    """The cells that the pictures show; every one has a hospital, not every one a band level.

    ``cells.csv`` decides. Without it all pictures are of the patient that is given, and cells are
    called as their files, less the ending; or else the names have the form of :data:`BY_NAME`.

    Args:
        pictures: the zip.
        hospital: default hospital.
        patient_id: patient of all pictures; may be empty.
        band_level: default band level; None leaves it empty, to be estimated.

    Raises:
        RequestError: a picture cannot be assigned, or a name is missing or too long.
    """
    by_name = {PurePosixPath(name).name: name for name in pictures.names}
    limits = pictures.limits
    try:
        if CELLS in pictures.archive.files:
            content = pictures.archive.read(CELLS, _MAX_BYTES_BESIDE, CELLS)
            cells = cells_of_list(
                Path(CELLS),
                pictures.names,
                where="the body",
                content=content,
                max_rows=limits.max_pictures,
            )
        else:
            hint = f"name all pictures so, give patient_id as a parameter, or add {CELLS}"
            form = "{cell_id}" if patient_id else BY_NAME
            cells = cells_of_names(
                by_name, form, where="body", hint=hint, patient_id=nfc(patient_id)
            )
            cells = [{**cell, "path": by_name[cell["path"]]} for cell in cells]
    except ManifestTooLargeError as error:
        raise too_large(str(error)) from None
    except ManifestError as error:
        raise invalid(str(error)) from None
    missing = set(pictures.names) - {cell["path"] for cell in cells}
    if missing:
        raise invalid(
            f"body: it is not said whose cell {min(missing)[:100]!r} shows; list it in {CELLS}, or "
            "give each picture a name of its own"
        )
    for cell in cells:
        cell["hospital"] = cell["hospital"] or nfc(hospital)
        cell["band_level"] = cell["band_level"] or str(band_level or "")
        if not cell["hospital"]:
            raise invalid(
                "body: no hospital is given; add ?hospital=, one of /v1/models, or list it in "
                f"{CELLS}"
            )
        for field in ("hospital", "patient_id", "cell_id"):
            if not 1 <= len(cell[field]) <= limits.max_name_chars:
                raise invalid(
                    f"body: {cell['path'][:100]!r}: '{field}' has {len(cell[field])} characters, "
                    f"expected 1 to {limits.max_name_chars}; give it as a parameter, or in {CELLS}"
                )
    return cells
