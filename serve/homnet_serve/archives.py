"""Reads zips of chromosome images with a manifest, in memory. No path from a request is opened."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import pandas as pd
import pyarrow as pa

from homnet.cohorts.pairs import MEASURED
from homnet.errors import ManifestError
from homnet.imaging.extraction import ExtractionConfig
from homnet.imaging.manifest import CHROMOSOME_KEY, read_manifest
from homnet.imaging.pairing import measure_rows, pair_up, set_upright
from homnet_serve.bodies import check_pairs
from homnet_serve.config import Limits
from homnet_serve.errors import RequestError, invalid, too_large
from homnet_serve.schemas import RefusedImage

MANIFEST: Final = "manifest.csv"
ZIP_TYPE: Final = "application/zip"
_FORMATS: Final = ("PNG", "TIFF", "JPEG", "BMP")
_MAX_MANIFEST_BYTES: Final = 8 * 2**20
_MAX_ENTRY_BYTES: Final = 1024
"""Maximum size of a file's entry in the zip directory, including its name."""


@dataclass(frozen=True)
class ImagesOfBody:
    """Pairs measured in the images of a request."""

    table: pa.Table
    """Pairs with the columns of :data:`homnet.cohorts.pairs.MEASURED`; may be empty."""
    refused: dict[tuple[str, str], list[RefusedImage]]
    """Images without a usable sequence, by hospital and patient."""
    hospitals: frozenset[str]
    """Hospitals of all rows of the manifest."""


def read_manifest_of_body(
    body: bytes, *, hospital: str, band_level: int, limits: Limits
) -> tuple[zipfile.ZipFile, pd.DataFrame]:
    """Opens a zip and reads its manifest, but no images.

    Args:
        body: the zip.
        hospital: default hospital of rows without one.
        band_level: default band level of rows without one.
        limits: bounds on the request.

    Raises:
        RequestError: the body is not a zip or is too large, or its manifest is wrong.
    """
    archive = _open(body, limits)
    content = io.BytesIO(_read(archive, MANIFEST, _MAX_MANIFEST_BYTES))
    try:
        manifest = read_manifest(
            Path(MANIFEST), hospital=hospital, band_level=band_level, content=content
        )
    except ManifestError as error:
        raise invalid(str(error)) from None
    if len(manifest) > limits.max_images:
        raise too_large(
            f"{MANIFEST}: {len(manifest)} rows, at most {limits.max_images}; send fewer"
        )
    return archive, manifest


def measure_images(
    archive: zipfile.ZipFile,
    manifest: pd.DataFrame,
    config: ExtractionConfig,
    limits: Limits,
    stopped: Callable[[], bool] = lambda: False,
) -> ImagesOfBody:
    """Measures the images of a zip and pairs the homologs.

    An image without a usable sequence is not an error: the answer lists it with its reason.

    Args:
        archive: from :func:`read_manifest_of_body`.
        manifest: from :func:`read_manifest_of_body`.
        config: how chromosomes are measured.
        limits: bounds on the request.
        stopped: called before every image; returns True if the request was abandoned.

    Raises:
        RequestError: a row names a file that is missing or too large, or ``stopped`` returned True.
    """

    def open_image(row: Mapping[str, Any]) -> IO[bytes]:
        if stopped():
            raise RequestError(504, "deadline", "the deadline passed while images were measured")
        return io.BytesIO(
            _read(archive, row["path"], limits.max_image_bytes, f"row {row['row']}: ")
        )

    images = set_upright(measure_rows(manifest, open_image, config, _FORMATS))
    unusable = images["reason"] != ""
    refused: dict[tuple[str, str], list[RefusedImage]] = {}
    for row in images[unusable].to_dict("records"):
        image = {name: row[name] for name in RefusedImage.model_fields}
        refused.setdefault((row["hospital"], row["patient_id"]), []).append(RefusedImage(**image))
    table = pair_up(images).select([*MEASURED.names, "quality"])
    rows = images[~unusable].drop_duplicates(CHROMOSOME_KEY)["row"]
    if table.num_rows:
        check_pairs(table, limits, lambda at: f"{MANIFEST}: row {rows.iloc[at]}")
    return ImagesOfBody(table, refused, frozenset(manifest["hospital"]))


def _open(body: bytes, limits: Limits) -> zipfile.ZipFile:
    max_files = limits.max_images + 1
    end = body.rfind(b"PK\x05\x06", max(len(body) - 65_557, 0))
    if end < 0 or end + 22 > len(body):
        raise invalid("body: not a zip, or cut off; send a zip with manifest.csv and the images")
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
    names = [info.filename for info in infos]
    if len(set(names)) < len(names):
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
    return archive


def _read(archive: zipfile.ZipFile, name: str, max_bytes: int, place: str = "") -> bytes:
    """Reads one file, at most its size in the directory, which :func:`_open` has added up."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise invalid(f"{MANIFEST}: {place}the zip has no file {name[:100]!r}; add it") from None
    if info.file_size > max_bytes:
        raise too_large(f"{MANIFEST}: {place}{name[:100]!r} has more than {max_bytes} bytes")
    try:
        return archive.read(info)
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        ValueError,
        NotImplementedError,
    ) as error:
        raise invalid(
            f"{MANIFEST}: {place}{name[:100]!r} cannot be unpacked ({str(error)[:100]})"
        ) from None
