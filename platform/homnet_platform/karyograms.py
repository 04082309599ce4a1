"""Cuts karyograms into images of single chromosomes, with a manifest that ingest reads.

Every page is read in a process of its own. What was found on it is kept beside the images: a
drawing of the page with all outlines, the chromosomes that were left out with their reasons, and
the pages that could not be read.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pandas as pd
from PIL import Image

from homnet import __version__
from homnet.errors import ConfigError, DataError, ManifestError
from homnet.files import Staging, is_published
from homnet.imaging.blobs import resized
from homnet.imaging.karyogram import (
    PX_PER_ISCN,
    UM_PER_PX,
    Karyogram,
    find_chromosomes,
    read_picture,
)
from homnet.imaging.layouts import Layout, read_layout
from homnet.imaging.manifest import HOSPITAL_NAME, nfc, normal_path, read_rows, refuse_rows
from homnet.imaging.outlines import draw_outlines
from homnet.karyotype.chromosomes import BAND_LEVELS
from homnet.locations import Location, files_in
from homnet.results import read_json, write_json
from homnet_platform.blocks import process_blocks
from homnet_platform.job import LocationOption

MANIFEST: Final = "manifest.csv"
"""Manifest of the chromosomes that were cut out."""
FOUND: Final = "found.csv"
"""Everything that was found on the pages, used or not."""
_SETTINGS: Final = "settings.json"
_SUFFIXES: Final = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_CELL: Final = ("path", "patient_id", "cell_id")
_OPTIONAL: Final = ("hospital", "band_level")
_MAX_ZOOM: Final = 4.0
"""Largest enlargement; a page that needs more has too few pixels."""


@dataclass(frozen=True)
class KaryogramConfig:
    """How karyograms are named, arranged and scaled."""

    cells: LocationOption | None = None
    """CSV with path (relative to the folder), patient_id and cell_id, perhaps hospital and
    band_level, one row per karyogram."""
    names: str = "{patient_id}_{cell_id}"
    """Without such a CSV: what the path of a file, less its ending, is made of."""
    layout: LocationOption | None = None
    """CSV of the laboratory's layout: a line per row of the karyogram, with its types from left to
    right. By default the common layouts are tried."""
    px_per_um: float | None = None
    """Pixels of a page per micrometre; by default estimated from the lengths of the
    chromosomes."""

    def __post_init__(self) -> None:
        if self.px_per_um is not None and not 0.5 < self.px_per_um < 500:
            raise ConfigError(
                f"karyogram.px_per_um is {self.px_per_um:g}; give a number from 0.5 to 500"
            )
        for field in ("{patient_id}", "{cell_id}"):
            if self.names.count(field) != 1:
                raise ConfigError(f"karyogram.names is {self.names!r}; it needs {field} once")


def cut_karyograms(folder: Location, config: KaryogramConfig, output: Location) -> Location:
    """Cuts all karyograms of a folder into images of single chromosomes.

    An interrupted run resumes at the page it was reading; a finished one of the same settings is
    kept. On a cluster all nodes must share the storage.

    Args:
        folder: folder or URI of the pictures.
        config: names, layout and scale.
        output: directory to create.

    Returns:
        The manifest in the directory.

    Raises:
        ManifestError: files cannot be assigned to cells.
        DataError: the layout is wrong, no page could be read, or the directory exists with other
            settings.
    """
    pages = pages_of(folder, config)
    layout = None if config.layout is None else read_layout(config.layout)
    settings: dict[str, Any] = {
        "job": "karyograms",
        "version": __version__,
        "pages": pages,
        "layout": None if layout is None else [list(row) for row in layout.rows],
        "px_per_um": config.px_per_um,
    }
    staging = Staging(output.absolute())
    manifest = output / MANIFEST
    if is_published(output) and _settings_of(output) == settings:
        return manifest
    staging.claim(settings)
    parts = process_blocks(
        len(pages),
        partial(
            _cut_page,
            pages=pages,
            folder=folder.absolute(),
            staging=staging,
            layout=layout,
            px_per_um=config.px_per_um,
        ),
        title="cut",
        total=len(pages),
        unit="karyogram",
    )
    found = pd.concat([_read_csv(part) for part in parts], ignore_index=True)
    used = found[found["reason"] == ""]
    _say(found, len(pages))
    with staging.writing(FOUND) as temporary:
        found.to_csv(temporary, index=False)
    if used.empty:
        raise DataError(
            f"{folder}: no chromosome could be used; {found['reason'].iloc[0]}; all reasons are in "
            f"{staging.content / FOUND}"
        )
    with staging.writing(_SETTINGS) as temporary:
        write_json(temporary, settings)
    with staging.writing(MANIFEST) as temporary:
        columns = ["path", "patient_id", "cell_id", "chromosome", "homolog", *_OPTIONAL]
        used[columns].to_csv(temporary, index=False)
    staging.publish()
    return manifest


def _settings_of(output: Location) -> object:
    """Settings of a finished directory; None if it is something else."""
    path = output / _SETTINGS
    return read_json(path) if path.exists() else None


def pages_of(folder: Location, config: KaryogramConfig) -> list[dict[str, str]]:
    """The karyograms of a folder: path, patient_id, cell_id, hospital and band_level (or empty).

    Raises:
        ManifestError: names the first file or row that cannot be assigned to a cell.
    """
    there = [
        path
        for path in files_in(folder, recursive=True)
        if path.lower().endswith(_SUFFIXES) and not path.rpartition("/")[2].startswith(".")
    ]
    if not there:
        raise ManifestError(f"{folder}: there is no picture; give a folder of karyograms")
    if config.cells is not None:
        pages = _listed(config.cells, {nfc(path): path for path in there})
    else:
        pages = _named(folder, there, config.names)
    return sorted(pages, key=lambda page: (page["hospital"], page["patient_id"], page["cell_id"]))


def _named(folder: Location, there: Sequence[str], names: str) -> list[dict[str, str]]:
    """Files with the cells that their names say."""
    pattern = re.escape(names)
    for field, form in (("patient_id", "[^/]+?"), ("cell_id", "[^/]+")):
        pattern = pattern.replace(re.escape(f"{{{field}}}"), f"(?P<{field}>{form})")
    pages: dict[tuple[str, str], dict[str, str]] = {}
    for path in there:
        match = re.fullmatch(pattern, nfc(path).rpartition(".")[0])
        if match is None:
            raise ManifestError(
                f"{folder}: the name of '{path}' is not {names}; give the names' form "
                "with --karyogram.names, or a CSV of the cells with --karyogram.cells"
            )
        page = {"path": path, **match.groupdict(), **dict.fromkeys(_OPTIONAL, "")}
        first = pages.setdefault((page["patient_id"], page["cell_id"]), page)
        if first is not page:
            raise ManifestError(
                f"{folder}: '{path}' and '{first['path']}' are karyograms of one cell, "
                f"'{page['cell_id']}' of patient '{page['patient_id']}'; give each cell one"
            )
    return list(pages.values())


def _listed(path: Location, there: Mapping[str, str]) -> list[dict[str, str]]:
    """The rows of a CSV of cells.

    Args:
        path: the CSV.
        there: files of the folder, by their name in NFC.

    Raises:
        ManifestError: names the first bad row.
    """
    frame = read_rows(path, _CELL, _OPTIONAL)
    frame["path"] = frame["path"].map(normal_path)
    levels = [str(level) for level in BAND_LEVELS]
    checks = (
        *((name, frame[name] == "", "give a value") for name in _CELL),
        ("path", ~frame["path"].isin(list(there)), "there is no such picture in the folder"),
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
    unlisted = sorted(set(there) - set(frame["path"]))
    if unlisted:
        print(
            f"karyograms: {len(unlisted)} of the {len(there)} pictures of the folder are in no row "
            f"of {path.name} and are left out, the first of them '{unlisted[0]}'"
        )
    return [
        {**{str(name): value for name, value in row.items()}, "path": there[row["path"]]}
        for row in frame[[*_CELL, *_OPTIONAL]].to_dict("records")
    ]


def _cut_page(
    number: int,
    *,
    pages: Sequence[dict[str, str]],
    folder: Location,
    staging: Staging,
    layout: Layout | None,
    px_per_um: float | None,
) -> tuple[int, str]:
    """Cuts one page; returns 1 and what was found on it as CSV."""
    page = pages[number]
    done = staging.content / "pages" / f"{number:05d}.csv"
    if done.exists():
        return 1, done.read_text()
    try:
        picture = read_picture(folder / page["path"])
        karyogram = find_chromosomes(picture, layout)
        zoom = _zoom(karyogram, px_per_um)
    except DataError as error:
        rows: list[dict[str, object]] = [
            {**page, "page": page["path"], "path": "", "reason": str(error)}
        ]
    else:
        rows = []
        for at, one in enumerate(karyogram.chromosomes):
            path = "" if one.reason else f"pages/{number:05d}/{one.chromosome}_{one.homolog}.png"
            top, left, bottom, right = one.box
            rows.append(
                {
                    **page,
                    "page": page["path"],
                    "path": path,
                    "number": at,
                    "chromosome": one.chromosome,
                    "homolog": "" if one.reason else one.homolog,
                    "probability": f"{one.probability:.4f}",
                    **{"top": top, "left": left, "bottom": bottom, "right": right},
                    "px_per_iscn": f"{karyogram.px_per_iscn:.6g}",
                    "layout": karyogram.layout.name,
                    "flags": " ".join(one.flags),
                    "reason": one.reason,
                }
            )
            if path:
                with staging.writing(path) as temporary:
                    Image.fromarray(resized(one.image_HW, zoom)).save(temporary, format="PNG")
        with staging.writing(f"pages/{number:05d}.png") as temporary:
            draw_outlines(picture, karyogram).save(temporary, format="PNG")
    text = pd.DataFrame(rows, columns=_COLUMNS).to_csv(index=False)
    with staging.writing(f"pages/{number:05d}.csv") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return 1, text


_COLUMNS: Final = [
    "page",
    *("hospital", "patient_id", "cell_id", "band_level"),
    *("number", "chromosome", "homolog", "probability"),
    *("top", "left", "bottom", "right"),
    *("px_per_iscn", "layout", "flags", "reason", "path"),
]


def _zoom(karyogram: Karyogram, px_per_um: float | None) -> float:
    """Enlargement of the chromosomes of a page to the common scale.

    Raises:
        DataError: the page has far too few pixels.
    """
    if px_per_um is None:
        zoom = PX_PER_ISCN / karyogram.px_per_iscn
    else:
        zoom = 1.0 / (UM_PER_PX * px_per_um)
    if zoom > _MAX_ZOOM:
        raise DataError(
            f"the chromosomes are too small: {1 / zoom:.2f} of the usual size; export the "
            "karyogram with more pixels"
        )
    return zoom


def _read_csv(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)


def _say(found: pd.DataFrame, num_pages: int) -> None:
    """Says what became of the pages."""
    unread = found[(found["reason"] != "") & (found["number"] == "")]
    left_out = found[(found["reason"] != "") & (found["number"] != "")]
    print(f"karyograms: {num_pages}, of which {len(unread)} could not be read")
    for reason, count in unread["reason"].value_counts().items():
        print(f"  {count:6d} {reason}")
    print(f"chromosomes on them: {len(found) - len(unread)}, of which {len(left_out)} left out")
    kinds = left_out["reason"].str.split(":", n=1).str[0]
    for kind, count in kinds.value_counts().items():
        print(f"  {count:6d} {kind}")
