"""Reads zips in memory: chromosome images with a manifest. No path from a request is opened."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel

from homnet.cohorts.pairs import MEASURED
from homnet.errors import ManifestError, ManifestTooLargeError
from homnet.imaging.extraction import MAX_SIDE_PX, ExtractionConfig
from homnet.imaging.manifest import CHROMOSOME_KEY, normal_path, read_manifest
from homnet.imaging.pairing import (
    SURPLUS,
    Source,
    files_of_pairs,
    leave_out_wide,
    measure_rows,
    note_same_pixels,
    pair_up,
    set_band_levels,
    set_upright,
)
from homnet.imaging.reading import read_grey
from homnet.patients.pictures import (
    NOTHING_USED,
    SentPicture,
    corrected,
    left_out,
    sent_image,
    without_names,
)
from homnet.report.patient_page import NO_IMAGES, Images
from homnet_serve.bodies import check_pairs
from homnet_serve.config import Limits
from homnet_serve.errors import given_up, invalid, too_large
from homnet_serve.schemas import KaryogramOfCell, NotedImage, RefusedImage

M = TypeVar("M", bound=BaseModel)
MANIFEST: Final = "manifest.csv"
ZIP_TYPE: Final = "application/zip"
_MAX_MANIFEST_BYTES: Final = 8 * 2**20
_MAX_ENTRY_BYTES: Final = 1024
"""Maximum size of a file's entry in the zip directory, including its name."""
_IS_UTF8: Final = 0x800
"""Flag of a file in a zip whose name is UTF-8."""


@dataclass(frozen=True)
class Archive:
    """An opened zip, whose sizes were checked."""

    content: zipfile.ZipFile
    """The zip."""
    files: Mapping[str, zipfile.ZipInfo]
    """Its entries, by :func:`homnet.imaging.manifest.normal_path` of their names."""

    def read(self, name: str, max_bytes: int, place: str) -> bytes:
        """Reads one file, at most its size in the directory, which was added up before.

        Raises:
            RequestError: the file is missing, too large or cannot be unpacked; ``place`` begins
                the message.
        """
        info = self.files.get(name)
        if info is None:
            raise invalid(f"{place}: the zip has no file {name[:100]!r}; add it")
        if info.file_size > max_bytes:
            raise too_large(f"{place}: {name[:100]!r} has more than {max_bytes} bytes")
        try:
            return self._unpacked(info)
        except (
            zipfile.BadZipFile,
            zlib.error,
            OSError,
            EOFError,
            ValueError,
            OverflowError,
            NotImplementedError,
        ) as error:
            raise invalid(
                f"{place}: {name[:100]!r} cannot be unpacked ({str(error)[:100]})"
            ) from None

    def _unpacked(self, info: zipfile.ZipInfo) -> bytes:
        # Without a number of bytes, zipfile unpacks all that is there before it cuts that to the
        # stated size. What is longer than stated ends here, and its checksum is wrong.
        with self.content.open(info) as file:
            return file.read(info.file_size + 1)


@dataclass(frozen=True)
class ImagesOfBody:
    """The pairs of a request, and the images in which they were measured, if it had images."""

    table: pa.Table
    """Pairs with the columns of :data:`homnet.cohorts.pairs.MEASURED`; may be empty."""
    refused: Mapping[tuple[str, str], list[RefusedImage]] = field(default_factory=dict)
    """Images without a usable sequence, by hospital and patient."""
    noted: Mapping[tuple[str, str], list[NotedImage]] = field(default_factory=dict)
    """Images that were used with a note, and further copies, by hospital and patient."""
    karyograms: Mapping[tuple[str, str], list[KaryogramOfCell]] = field(default_factory=dict)
    """What became of the patient's karyograms, by hospital and patient."""
    image_of: Callable[[str], NDArray[np.uint8]] | None = None
    """Returns the grey levels (H, W) of an image by its name; None without images."""
    files: Mapping[tuple[str, str, str, str], tuple[str, ...]] = field(default_factory=dict)
    """Names of the images of each pair, by hospital, patient, cell and chromosome."""

    def sent(self, hospital: str, patient_id: str) -> list[SentPicture]:
        """What became of a patient's pictures."""
        patient = (hospital, patient_id)
        images = [
            *(
                sent_image(one.row, one.chromosome, one.cell_id, one.reason, "")
                for one in self.refused.get(patient, ())
            ),
            *(
                sent_image(one.row, one.chromosome, one.cell_id, "", one.note)
                for one in self.noted.get(patient, ())
            ),
        ]
        if patient not in self.karyograms:
            return images
        used = {name.rpartition(", number ")[0] for names in self.files.values() for name in names}
        karyograms = [
            SentPicture(
                one.picture,
                one.cell_id,
                one.reason or ("" if one.picture in used else NOTHING_USED),
                (
                    *(corrected(c.number, c.before, c.chromosome) for c in one.corrected),
                    *(left_out(c.number, c.chromosome, c.reason) for c in one.left_out),
                    *(f"number {c.number}: {c.note}" for c in one.noted),
                ),
            )
            for one in self.karyograms[patient]
        ]
        return images + karyograms

    def of_patient(self, hospital: str, patient_id: str) -> Images:
        """The images of a patient's pairs."""
        if self.image_of is None:
            return NO_IMAGES
        return {
            (cell, chromosome): [self.image_of(name) for name in names]
            for (where, who, cell, chromosome), names in self.files.items()
            if (where, who) == (hospital, patient_id)
        }


def read_manifest_of_body(
    body: bytes, *, hospital: str, band_level: int | None, limits: Limits
) -> tuple[Archive, pd.DataFrame]:
    """Opens a zip and reads its manifest, but no images.

    Args:
        body: the zip.
        hospital: default hospital of rows without one.
        band_level: default band level of cells without one; None: it is estimated.
        limits: bounds on the request.

    Raises:
        RequestError: the body is not a zip or is too large, or its manifest is wrong.
    """
    archive = open_zip(body, limits.max_images + 1, limits, "manifest.csv and the images")
    try:
        manifest = read_manifest(
            Path(MANIFEST),
            hospital=hospital,
            band_level=band_level,
            content=archive.read(MANIFEST, _MAX_MANIFEST_BYTES, MANIFEST),
            max_rows=limits.max_images,
        )
    except ManifestTooLargeError as error:
        raise too_large(str(error)) from None
    except ManifestError as error:
        raise invalid(str(error)) from None
    return archive, manifest


def measure_images(
    archive: Archive,
    manifest: pd.DataFrame,
    configs: Mapping[str, ExtractionConfig],
    limits: Limits,
    stopped: Callable[[], bool] = lambda: False,
) -> ImagesOfBody:
    """Measures the images of a zip and pairs the homologs.

    An image without a usable sequence is not an error: the answer lists it with its reason.

    Args:
        archive: from :func:`read_manifest_of_body`.
        manifest: from :func:`read_manifest_of_body`.
        configs: how the chromosomes of each hospital are measured.
        limits: bounds on the request.
        stopped: called before every image; returns True if the request was abandoned.

    Raises:
        RequestError: a row names a file that is missing or too large, or ``stopped`` returned True.
    """
    largest_px = max((one.max_side_px for one in configs.values()), default=MAX_SIDE_PX)

    def open_image(row: Mapping[str, Any]) -> IO[bytes]:
        if stopped():
            raise given_up()
        place = f"{MANIFEST}: row {row['row']}"
        return io.BytesIO(archive.read(row["path"], limits.max_image_bytes, place))

    def image_of(name: str) -> NDArray[np.uint8]:
        content = archive.read(name, limits.max_image_bytes, MANIFEST)
        return read_grey(io.BytesIO(content), max_side_px=largest_px)

    images, table = measured(manifest, open_image, configs, limits, f"{MANIFEST}: row {{row}}")
    # A further copy is not measured, but its image is not at fault, and the verdict mentions it.
    is_surplus = images["reason"] == SURPLUS
    images.loc[is_surplus, "note"] = SURPLUS
    unusable = (images["reason"] != "") & ~is_surplus
    return ImagesOfBody(
        table,
        refused=_by_patient(images[unusable], RefusedImage),
        noted=_by_patient(images[~unusable & (images["note"] != "")], NotedImage),
        image_of=image_of,
        files=files_of_pairs(images),
    )


def measured(
    rows: pd.DataFrame,
    open_image: Callable[[Mapping[str, Any]], Source],
    configs: Mapping[str, ExtractionConfig],
    limits: Limits,
    place: str,
    *,
    on_karyogram: bool = False,
) -> tuple[pd.DataFrame, pa.Table]:
    """Measures images of chromosomes and pairs the homologs.

    Args:
        rows: at least one row, with the columns of a manifest and in its order
            (:func:`homnet.imaging.manifest.read_manifest`).
        open_image: returns the image of a row.
        configs: how the chromosomes of each hospital are measured.
        limits: bounds on the request.
        place: what messages call a row, with names of columns in braces.
        on_karyogram: whether the images were cut out of karyograms.

    Returns:
        The rows with what was measured, whose notes name no picture, and the pairs with the columns
        of :data:`homnet.cohorts.pairs.MEASURED` and their quality; there may be none.

    Raises:
        RequestError: the pairs exceed a limit.
    """
    images = pd.concat(
        [
            measure_rows(part, open_image, configs[str(name)])
            for name, part in rows.groupby("hospital")
        ],
        ignore_index=True,
    )
    images = note_same_pixels(leave_out_wide(images), images["path"], {})
    images = set_band_levels(set_upright(images, on_karyogram=on_karyogram))
    # Whoever reads the answer on one patient must not learn the name of another.
    images["note"] = images["note"].map(without_names)
    table = pair_up(images).select([*MEASURED.names, "quality"])
    if table.num_rows:
        first = images[images["reason"] == ""].drop_duplicates(CHROMOSOME_KEY)
        check_pairs(table, limits, lambda at: place.format(**first.iloc[at]))
    return images, table


def _by_patient(images: pd.DataFrame, kind: type[M]) -> dict[tuple[str, str], list[M]]:
    """Rows as models of the answer, by hospital and patient."""
    found: dict[tuple[str, str], list[M]] = {}
    for row in images.to_dict("records"):
        one = kind(**{name: row[name] for name in kind.model_fields})
        found.setdefault((row["hospital"], row["patient_id"]), []).append(one)
    return found


def open_zip(body: bytes, max_files: int, limits: Limits, expected: str) -> Archive:
    """Opens a zip, but unpacks nothing.

    Args:
        body: the zip.
        max_files: maximum number of files in it.
        limits: bounds on the request.
        expected: what it should hold, for messages.

    Raises:
        RequestError: the body is not a zip, is of a form that is not read, or is too large.
    """
    end = body.rfind(b"PK\x05\x06", max(len(body) - 65_557, 0))
    if end < 0 or end + 22 > len(body):
        raise invalid(f"body: not a zip, or cut off; send a zip with {expected}")
    num_files, directory_bytes = struct.unpack_from("<HI", body, end + 10)
    # Check before reading the directory: a directory of a million files would take seconds.
    if body[max(end - 20, 0) : end].startswith(b"PK\x06\x07"):
        raise too_large("body: a zip64 archive; send fewer images")
    if num_files > max_files or directory_bytes > max_files * _MAX_ENTRY_BYTES:
        raise too_large(f"body: more than {max_files} files; send fewer images")
    try:
        archive = zipfile.ZipFile(io.BytesIO(body))
        infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, OSError) as error:
        raise invalid(f"body: not a readable zip ({str(error)[:100]})") from None
    if len(infos) > max_files:
        raise too_large(f"body: more than {max_files} files; send fewer images")
    files = {normal_path(_name(info)): info for info in infos}
    if len(files) < len(infos):
        raise invalid("body: the zip has two files of one name; give each file its own")
    for info in infos:
        if info.flag_bits & 1:
            raise invalid("body: the zip is encrypted; send it without a password")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise invalid("body: the zip uses another compression than deflate; use deflate")
    if sum(info.file_size for info in infos) > limits.max_expanded_bytes:
        raise too_large(
            f"body: the zip expands to more than {limits.max_expanded_bytes} bytes; send fewer "
            "images"
        )
    return Archive(archive, files)


def _name(info: zipfile.ZipInfo) -> str:
    """The name of a file, whether or not the zip says that it is UTF-8; macOS does not.

    Raises:
        RequestError: the name is written in one of several older encodings.
    """
    if info.flag_bits & _IS_UTF8 or info.filename.isascii():
        return info.filename
    written = info.filename.encode("cp437")
    try:
        return written.decode()
    except UnicodeDecodeError:
        pass
    if written.decode("cp850") != info.filename:
        raise invalid(
            f"body: the zip does not say how the name {info.filename[:100]!r} is written, which "
            "has other letters elsewhere; make the zip with UTF-8 names, or give the file a plain "
            "name"
        )
    return info.filename
