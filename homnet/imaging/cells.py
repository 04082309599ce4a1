"""Which cell each picture of a karyogram shows: said by the names of the files, or by a list."""

import re
from collections.abc import Iterable
from typing import Final

from homnet.cohorts.checks import HOSPITAL_NAME
from homnet.errors import ManifestError
from homnet.imaging.manifest import (
    FORMULA,
    MAX_ROWS,
    NO_FORMULA,
    nfc,
    normal_path,
    read_rows,
    refuse_rows,
    trimmed,
)
from homnet.karyotype.chromosomes import BAND_LEVELS
from homnet.locations import Location

Cell = dict[str, str]
"""``path`` of the picture, ``patient_id`` and ``cell_id``; ``hospital`` and ``band_level``, which
are empty where nothing is said."""
BY_NAME: Final = "{patient_id}_{cell_id}"
"""Usual form of the names of pictures, less their ending."""
_SUFFIXES: Final = (
    *(".png", ".tif", ".tiff", ".bmp", ".gif", ".webp"),
    *(".jpg", ".jpeg", ".jpe", ".jfif"),
)
_REQUIRED: Final = ("path", "patient_id", "cell_id")
_OPTIONAL: Final = ("hospital", "band_level")


def is_picture(path: str) -> bool:
    """Whether a file is a picture by its name, and not hidden."""
    name = path.rpartition("/")[2]
    return name.lower().endswith(_SUFFIXES) and not name.startswith(".")


def cells_of_names(
    paths: Iterable[str], names: str, *, where: str, hint: str, patient_id: str = ""
) -> list[Cell]:
    """Cells by the names of the pictures, sorted by patient and cell.

    Args:
        paths: relative paths of the pictures.
        names: form of the paths, less their ending, with ``{patient_id}`` and ``{cell_id}``;
            neither reaches into another folder. A name that can be divided in two ways is refused:
            ``LAB_1_2`` may be cell 2 of one patient, or another patient's cell.
        where: what messages call the place of the pictures.
        hint: what to do about a name of another form.
        patient_id: of all pictures, if ``names`` has only ``{cell_id}``.

    Raises:
        ManifestError: a name has another form or more than one meaning, or a spreadsheet would
            take it for a formula, or two pictures show one cell.
    """
    shortest, longest = (_pattern(names, patient_id=form) for form in ("[^/]+?", "[^/]+"))
    cells: dict[tuple[str, ...], Cell] = {}
    for path in paths:
        stem = nfc(path).rpartition(".")[0]
        match, other = shortest.fullmatch(stem), longest.fullmatch(stem)
        if match is None or other is None:
            raise ManifestError(f"{where}: the name of '{path}' is not {names}; {hint}")
        if match.groups() != other.groups():
            raise ManifestError(
                f"{where}: the name of '{path}' does not say whether the patient is "
                f"'{match['patient_id']}' or '{other['patient_id']}'; {hint}"
            )
        parts = {name: trimmed(part) for name, part in match.groupdict().items()}
        said = {"patient_id": patient_id, **parts, **dict.fromkeys(_OPTIONAL, "")}
        cell = {"path": path, **said}
        for name, value in cell.items():
            if re.match(FORMULA, value):
                raise ManifestError(f"{where}: '{path}': '{name}' is {value!r}; {NO_FORMULA}")
        first = cells.setdefault(_key(cell), cell)
        if first is not cell:
            raise ManifestError(
                f"{where}: '{path}' and '{first['path']}' are karyograms of one cell, "
                f"'{cell['cell_id']}' of patient '{cell['patient_id']}'; give each cell one"
            )
    return sorted(cells.values(), key=_key)


def _pattern(names: str, *, patient_id: str) -> re.Pattern[str]:
    pattern = re.escape(nfc(names))
    for field, form in (("patient_id", patient_id), ("cell_id", "[^/]+")):
        pattern = pattern.replace(re.escape(f"{{{field}}}"), f"(?P<{field}>{form})")
    return re.compile(pattern)


def cells_of_list(
    path: Location,
    pictures: Iterable[str],
    *,
    where: str,
    content: bytes | None = None,
    max_rows: int = MAX_ROWS,
) -> list[Cell]:
    """Cells by a CSV file, sorted by hospital, patient and cell.

    Args:
        path: a CSV file with ``path``, ``patient_id``, ``cell_id``, and perhaps ``hospital`` and
            ``band_level``, one row per picture.
        pictures: relative paths of the pictures that there are; the list may name fewer.
        where: what messages call the place of the pictures.
        content: its content; ``path`` is then only its name in messages.
        max_rows: maximum number of rows.

    Raises:
        ManifestTooLargeError: there are more rows.
        ManifestError: names the first bad row.
    """
    there = {normal_path(picture): picture for picture in pictures}
    frame = read_rows(path, _REQUIRED, _OPTIONAL, content=content, max_rows=max_rows)
    frame["path"] = frame["path"].map(normal_path)
    levels = [str(level) for level in BAND_LEVELS]
    checks = (
        *((name, frame[name] == "", "give a value") for name in _REQUIRED),
        ("path", ~frame["path"].isin(list(there)), f"there is no such picture in {where}"),
        (
            "path",
            frame.duplicated("path"),
            "an earlier row names the same picture; each cell has its own",
        ),
        (
            "hospital",
            (frame["hospital"] != "") & ~frame["hospital"].str.fullmatch(HOSPITAL_NAME),
            "use letters, digits, '.', '_' and '-' only",
        ),
        (
            "band_level",
            ~frame["band_level"].isin(["", *levels]),
            f"expected {', '.join(levels)}, or nothing",
        ),
        (
            "cell_id",
            frame.duplicated(["hospital", "patient_id", "cell_id"]),
            "an earlier row has this cell of the patient; give each cell one karyogram",
        ),
    )
    refuse_rows(path, frame, checks)
    frame["path"] = frame["path"].map(there)
    rows = frame[[*_REQUIRED, *_OPTIONAL]].to_dict("records")
    return sorted(({str(name): str(row[name]) for name in row} for row in rows), key=_key)


def _key(cell: Cell) -> tuple[str, ...]:
    return cell["hospital"], cell["patient_id"], cell["cell_id"]
