"""A laboratory's list of images: a CSV file with one row per chromosome image."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Final

import numpy as np
import pandas as pd

from homnet.cohorts.checks import HOSPITAL_NAME
from homnet.errors import ManifestError, ManifestTooLargeError, StoreError
from homnet.imaging.reading import NO_FILE, unreadable
from homnet.karyotype.chromosomes import BAND_LEVELS, CHROMOSOMES
from homnet.locations import Location

REQUIRED: Final = ("path", "patient_id", "cell_id", "chromosome", "homolog")
OPTIONAL: Final = ("hospital", "band_level", "abnormal", "kind")
CHROMOSOME_KEY: Final = ["hospital", "patient_id", "cell_id", "chromosome"]
"""Columns that identify a pair."""
UNKNOWN_LEVEL: Final = 0
"""Band level of a cell for which none is stated."""
INVISIBLE: Final = "\u200b\u200c\u200d\u2060\ufeff"
"""Characters of no width, which programs leave around a name."""
MAX_ROWS: Final = 5_000_000
"""Default limit of the number of rows: a hundred thousand cells."""
FORMULA: Final = r"(?:\.?[\\/])*[=+@\t\r]"
"""Beginning by which a spreadsheet takes a value for a formula, and runs it: names are written into
CSV files, which laboratories open. A path may lose a first './'."""
NO_FORMULA: Final = "begin it otherwise: a spreadsheet takes it for a formula"
"""What to do about a name that begins with one of them."""
_NAMES: Final = ("path", "patient_id", "cell_id")
_MAX_LINE_BYTES: Final = 16_384
_MAX_COLUMNS: Final = 64
_SHOWN: Final = 60
"""Number of characters of a value that a message repeats."""
_TRUTH: Final = {
    **dict.fromkeys(("", "0", "false", "no"), False),
    **dict.fromkeys(("1", "true", "yes"), True),
}


def read_manifest(
    path: Location,
    *,
    hospital: str,
    band_level: int | None,
    content: bytes | None = None,
    max_rows: int = MAX_ROWS,
) -> pd.DataFrame:
    """Reads and checks a manifest.

    Rows are numbered as in a spreadsheet: the header is row 1. Text is brought into Unicode's
    composed form (NFC), so that one name is one patient however a system wrote it.

    Args:
        path: a CSV file with the columns of :data:`REQUIRED`, and any of :data:`OPTIONAL`.
            ``path`` is relative to the manifest's folder, with slashes or backslashes; ``homolog``
            is 0 or 1, and 2 to 9 for surplus copies, which do not fit into a pair.
        hospital: default for rows without a hospital.
        band_level: default for cells without a band level; None leaves them 0, to be estimated.
        content: the CSV content; ``path`` is then only its name in messages.
        max_rows: maximum number of rows; checked with the size of lines before they are read.

    Returns:
        All rows, sorted by :data:`CHROMOSOME_KEY` and homolog, with the columns ``row`` and those
        of :data:`REQUIRED` and :data:`OPTIONAL`: ``homolog`` and ``band_level`` int64 (0 if
        unknown), ``abnormal`` bool, the others str; ``kind`` is empty if unknown.

    Raises:
        ManifestTooLargeError: there are more than ``max_rows``.
        ManifestError: names the file and the first bad row.
    """
    frame = read_rows(path, REQUIRED, OPTIONAL, content=content, max_rows=max_rows)
    frame["hospital"] = frame["hospital"].mask(frame["hospital"] == "", nfc(hospital))
    default = "" if band_level is None else str(band_level)
    stated = frame["band_level"].mask(frame["band_level"] == "", default)
    # A level that one row of a cell states holds for all.
    cells = (
        frame["band_level"]
        .where(frame["band_level"] != "")
        .groupby([frame[name] for name in CHROMOSOME_KEY[:3]])
    )
    of_cell = cells.transform("first").fillna(default)
    unlike = (frame["band_level"] != "") & (frame["band_level"] != of_cell)

    levels = [str(level) for level in BAND_LEVELS]
    truth = frame["abnormal"].str.lower().map(_TRUTH)
    outside = frame["path"].map(_leads_outside)
    frame["path"] = frame["path"].map(normal_path)
    numbered = frame["homolog"].str.fullmatch("[0-9]")
    checks = (
        *((name, frame[name] == "", "give a value") for name in ("path", "patient_id", "cell_id")),
        ("path", outside, "give a path inside the manifest's folder"),
        (
            "hospital",
            ~frame["hospital"].str.fullmatch(HOSPITAL_NAME),
            "use letters, digits, '.', '_' and '-' only",
        ),
        ("chromosome", ~frame["chromosome"].isin(CHROMOSOMES), "expected 1..22, X or Y"),
        ("homolog", ~numbered, "expected 0 or 1, or 2 to 9 for a further copy"),
        (
            "band_level",
            ~(stated.isin(levels) | (stated == "")),
            f"expected {', '.join(levels)}",
        ),
        ("abnormal", truth.isna(), "expected 0 or 1"),
        (
            "kind",
            (frame["kind"] != "") & ~truth.eq(True),
            "only an abnormal chromosome has one",
        ),
        (
            "homolog",
            frame.duplicated([*CHROMOSOME_KEY, "homolog"]),
            "an earlier row gives the same homolog of this chromosome, cell and patient",
        ),
        (
            "homolog",
            _from_one(frame),
            "homologs are numbered from 0: the two of a pair are 0 and 1, and a further copy "
            "beside both is 2",
        ),
        (
            "path",
            frame.duplicated("path"),
            "an earlier row names the same file; each chromosome has an image of its own",
        ),
        (
            "band_level",
            unlike,
            "an earlier row of this cell states another; a cell has one band level",
        ),
    )
    refuse_rows(path, frame, checks)
    frame = frame.assign(
        homolog=frame["homolog"].astype("int64"),
        band_level=of_cell.replace("", str(UNKNOWN_LEVEL)).astype("int64"),
        abnormal=truth.astype(bool),
    )
    return frame.sort_values([*CHROMOSOME_KEY, "homolog"], ignore_index=True)


def refuse_rows(
    path: Location, frame: pd.DataFrame, checks: Iterable[tuple[str, "pd.Series[bool]", str]]
) -> None:
    """Refuses rows that have a bad value.

    Args:
        path: name of the file in the message.
        frame: rows, with ``row``.
        checks: column, whether the value of each row is bad, and what to do about it.

    Raises:
        ManifestError: names the first row of the first check that finds one.
    """
    for name, bad, hint in checks:
        if bad.any():
            first = frame[bad].iloc[0]
            value = _cut(first[name])
            raise ManifestError(f"{path}: row {first['row']}: '{name}' is {value!r}; {hint}")


def find_image(folder: Location, path: str) -> Location:
    """Path of an image of a manifest, whichever Unicode form its name has on the disk.

    Args:
        folder: folder of the manifest.
        path: from :func:`read_manifest`.

    Returns:
        The path; if nothing is there, that of the manifest.

    Raises:
        StoreError: the folder cannot be looked into.
    """
    place = folder / path
    try:
        if place.exists():
            return place
        found = folder
        for part in PurePosixPath(path).parts:
            if not (found / part).exists() and found.is_dir():
                alike = (one.name for one in found.iterdir() if nfc(one.name) == part)
                part = next(alike, part)
            found = found / part
        return found
    except StoreError:
        raise
    except OSError as error:
        if error.errno in NO_FILE:  # reading it says so
            return place
        raise unreadable(place, error) from None


def nfc(text: str) -> str:
    """The text in Unicode's composed form."""
    return unicodedata.normalize("NFC", text)


def trimmed(text: str) -> str:
    """The text without what nobody sees around it: spaces, and characters of no width."""
    return text.strip().strip(INVISIBLE).strip()


def normal_path(text: str) -> str:
    """A relative path in NFC with slashes, without dots and doubled slashes; empty stays empty."""
    return str(PurePosixPath(nfc(text).replace("\\", "/"))) if text else text


def read_rows(
    path: Location,
    required: Sequence[str],
    optional: Sequence[str],
    *,
    content: bytes | None = None,
    max_rows: int = MAX_ROWS,
) -> pd.DataFrame:
    """Reads the rows of a CSV file that are not blank, as text.

    Args:
        path: a CSV file.
        required: columns that it must have.
        optional: columns that are empty where it lacks them; any others are left out.
        content: its content; ``path`` is then only its name in messages.
        max_rows: maximum number of rows; checked with the size of lines before they are read.

    Returns:
        ``row``, numbered as in a spreadsheet, and the columns, in NFC without spaces around.

    Raises:
        ManifestTooLargeError: there are more than ``max_rows``.
        ManifestError: names the file and the first bad row, also one with a name that begins as a
            :data:`FORMULA` does.
    """
    if content is None:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise ManifestError(f"{path}: there is no such file; give a CSV file") from None
        except OSError as error:
            raise ManifestError(f"{path}: cannot be read ({error.strerror or error})") from None
    rows = _rows(path, _checked(path, content, max_rows))
    names = [trimmed(name) for name in next(rows, [])]
    _check_header(path, names, required)
    values, numbers = [], []
    for number, row in enumerate(rows, start=2):
        if len(row) > len(names) and any(row[len(names) :]):
            raise ManifestError(
                f"{path}: row {number}: it has {len(row)} values, the header {len(names)}; put "
                "values with commas in quotation marks"
            )
        row = [trimmed(value) for value in row[: len(names)]]
        if any(row):
            values.append(row + [""] * (len(names) - len(row)))
            numbers.append(number)
    if not values:
        raise ManifestError(f"{path}: row 1: there is no row below the header; list the pictures")
    frame = pd.DataFrame(values, columns=names, dtype=str)
    known = {name: frame[name] if name in names else "" for name in (*required, *optional)}
    found = pd.DataFrame({"row": numbers, **known})
    named = [name for name in _NAMES if name in known]
    refuse_rows(path, found, [(name, found[name].str.match(FORMULA), NO_FORMULA) for name in named])
    return found


def _checked(path: Location, content: bytes, max_rows: int) -> str:
    """The text of a CSV file, whose size is checked before it is split into rows."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ManifestError(f"{path}: the file is UTF-16; save it as 'CSV UTF-8'")
    if b"\0" in content:
        raise ManifestError(f"{path}: not a readable CSV file; save the list as 'CSV UTF-8'")
    content = content.rstrip(b"\r\n")
    ends = np.flatnonzero(np.isin(np.frombuffer(content, np.uint8), (10, 13)))
    if len(ends) - content.count(b"\r\n") > max_rows:
        raise ManifestTooLargeError(
            f"{path}: more than {max_rows} rows; send or ingest fewer at once"
        )
    longest = int(np.diff(ends, prepend=-1, append=len(content)).max()) - 1
    if longest > _MAX_LINE_BYTES:
        raise ManifestError(
            f"{path}: a line of {longest} bytes, at most {_MAX_LINE_BYTES}; give each picture a row"
        )
    try:
        # Each program that edits a file may put a byte order mark before it.
        return nfc(content.decode("utf-8").lstrip("\ufeff"))
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise ManifestError(
            f"{path}: row {row}: not UTF-8 text; save the list as 'CSV UTF-8'"
        ) from None


def _rows(path: Location, text: str) -> Iterator[list[str]]:
    number = 0
    try:
        for row in csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True):
            number += 1
            yield row
    except csv.Error as error:
        raise ManifestError(
            f"{path}: row {number + 1}: not a readable CSV file ({error}); close every quotation "
            "mark"
        ) from None


def _check_header(path: Location, names: Sequence[str], required: Sequence[str]) -> None:
    """Refuses a header that is not one, with the commonest reasons by name."""
    if len(names) > _MAX_COLUMNS:
        raise ManifestError(f"{path}: row 1: {len(names)} columns, at most {_MAX_COLUMNS}")
    for mark, called in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(names) == 1 and mark in names[0]:
            raise ManifestError(f"{path}: row 1: the columns are separated by {called}; use commas")
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:
        raise ManifestError(f"{path}: row 1: column {_cut(twice[0])!r} is there more than once")
    missing = [name for name in required if name not in names]
    if missing:
        raise ManifestError(
            f"{path}: row 1: column '{missing[0]}' is missing; it has "
            f"{_cut(', '.join(names)) or 'nothing'}"
        )


def _from_one(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Rows with homolog 2 or more although one of the pair is not listed, or none is ever 0."""
    inside = frame["homolog"].isin(("0", "1"))
    listed = inside.groupby([frame[name] for name in CHROMOSOME_KEY]).transform("sum")
    without_zero = not bool((frame["homolog"] == "0").any())
    return pd.Series((~inside & (listed < 2)) | without_zero)


def _leads_outside(text: str) -> bool:
    """Whether a path is absolute or leaves its folder, on any operating system."""
    for path in (PurePosixPath(text), PureWindowsPath(text)):
        if path.is_absolute() or path.drive or ".." in path.parts or text.startswith("\\"):
            return True
    return False


def _cut(text: str) -> str:
    """A value for a message: short, without line ends."""
    text = re.sub(r"\s+", " ", text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
