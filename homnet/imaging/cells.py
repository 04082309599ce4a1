"""Which cell each picture of a karyogram shows: said by the names of the files, or by a list."""

import re
from collections.abc import Iterable
from typing import Final

from homnet.errors import ManifestError
from homnet.imaging.manifest import MAX_ROWS, nfc, normal_path, read_rows
from homnet.karyotype.chromosomes import BAND_LEVELS
from homnet.locations import Location

Cell = dict[str, str]
"""``path`` of the picture, ``patient_id`` and ``cell_id``; ``hospital`` and ``band_level``, which
are empty where nothing is said."""
BY_NAME: Final = "{patient_id}_{cell_id}"
"""Usual form of the names of pictures, less their ending."""
_SUFFIXES: Final = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
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
            neither reaches into another folder.
        where: what messages call the place of the pictures.
        hint: what to do about a name of another form.
        patient_id: of all pictures, if ``names`` has only ``{cell_id}``.

    Raises:
        ManifestError: a name has another form, or two pictures show one cell.
    """
    pattern = re.escape(names)
    for field, form in (("patient_id", "[^/]+?"), ("cell_id", "[^/]+")):
        pattern = pattern.replace(re.escape(f"{{{field}}}"), f"(?P<{field}>{form})")
    cells = []
    for path in paths:
        match = re.fullmatch(pattern, nfc(path).rpartition(".")[0])
        if match is None:
            raise ManifestError(f"{where}: the name of '{path}' is not {names}; {hint}")
        said = {"patient_id": patient_id, **match.groupdict(), **dict.fromkeys(_OPTIONAL, "")}
        cells.append({"path": path, **said})
    return _distinct(cells, where)


def cells_of_list(
    path: Location, content: bytes, pictures: Iterable[str], *, where: str, max_rows: int = MAX_ROWS
) -> list[Cell]:
    """Cells by a CSV file, sorted by hospital, patient and cell.

    Args:
        path: its name in messages.
        content: its content: ``path``, ``patient_id``, ``cell_id``, and perhaps ``hospital`` and
            ``band_level``, one row per picture.
        pictures: relative paths of the pictures that there are; the list may name fewer.
        where: what messages call the place of the pictures.
        max_rows: maximum number of rows.

    Raises:
        ManifestTooLargeError: there are more rows.
        ManifestError: names the first bad row.
    """
    there = {normal_path(picture): picture for picture in pictures}
    cells: list[Cell] = []
    seen: set[str] = set()
    for row in read_rows(path, content, max_rows, _REQUIRED, _OPTIONAL).to_dict("records"):
        begin = f"{path}: row {row.pop('row')}:"
        for name in _REQUIRED:
            if not row[name]:
                raise ManifestError(f"{begin} '{name}' is missing; give a value")
        picture = there.get(normal_path(row["path"]))
        if picture in seen:
            raise ManifestError(f"{begin} an earlier row names the same picture; list it once")
        if picture is None:
            raise ManifestError(f"{begin} '{row['path'][:100]}' is no picture in {where}")
        if row["band_level"] not in ("", *map(str, BAND_LEVELS)):
            levels = ", ".join(map(str, BAND_LEVELS))
            raise ManifestError(
                f"{begin} 'band_level' is '{row['band_level'][:20]}'; expected {levels}"
            )
        seen.add(picture)
        cells.append({str(name): str(value) for name, value in {**row, "path": picture}.items()})
    return _distinct(cells, str(path))


def _distinct(cells: list[Cell], where: str) -> list[Cell]:
    """The cells, sorted.

    Raises:
        ManifestError: two pictures show one cell.
    """
    seen: set[tuple[str, ...]] = set()
    for cell in cells:
        key = _key(cell)
        if key in seen:
            raise ManifestError(
                f"{where}: '{cell['path']}' is not the only karyogram of patient "
                f"'{cell['patient_id']}', cell '{cell['cell_id']}'; give each cell one"
            )
        seen.add(key)
    return sorted(cells, key=_key)


def _key(cell: Cell) -> tuple[str, ...]:
    return cell["hospital"], cell["patient_id"], cell["cell_id"]
