"""Cuts karyograms into images of single chromosomes, with a manifest that ingest reads.

Every page is read in a process of its own. What was found on it is kept beside the images: a
drawing of the page with all outlines, the chromosomes that were left out with their reasons, and
the pages that could not be read.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pandas as pd
from PIL import Image

from homnet import PROGRAM, __version__
from homnet.errors import ConfigError, DataError, ManifestError, StoreError
from homnet.files import Staging, is_published
from homnet.imaging.cells import BY_NAME, Cell, cells_of_list, cells_of_names, is_picture
from homnet.imaging.cutting import PX_PER_UM_RANGE, cut_out
from homnet.imaging.karyogram import MAX_BYTES, find_chromosomes, read_picture
from homnet.imaging.layouts import Layout, read_layout
from homnet.imaging.manifest import REQUIRED, nfc
from homnet.imaging.outlines import draw_outlines
from homnet.imaging.reading import read_content
from homnet.locations import Location, files_in
from homnet.results import read_json, write_json
from homnet_platform.blocks import process_blocks
from homnet_platform.job import LocationOption
from homnet_platform.progress import driver_bar

MANIFEST: Final = "manifest.csv"
"""Manifest of the chromosomes that were cut out."""
FOUND: Final = "found.csv"
"""Everything that was found on the pages, used or not."""
_SETTINGS: Final = "settings.json"
_MAX_NAMED: Final = 10
"""Number of unread pictures that are named; all of them are in the list."""


@dataclass(frozen=True)
class KaryogramConfig:
    """How karyograms are named, arranged and scaled."""

    cells: LocationOption | None = None
    """CSV with path (relative to the folder), patient_id and cell_id, perhaps hospital and
    band_level, one row per karyogram."""
    names: str = BY_NAME
    """Without such a CSV: what the path of a file, less its ending, is made of."""
    layout: LocationOption | None = None
    """CSV of the laboratory's layout: a line per row of the karyogram, with its types from left to
    right. By default the common layouts are tried."""
    px_per_um: float | None = None
    """Pixels of a page per micrometre; by default those of its scale bar or of its file, if they
    agree with the lengths of the chromosomes, and otherwise what these lengths say."""

    def __post_init__(self) -> None:
        low, high = PX_PER_UM_RANGE
        if self.px_per_um is not None and not low <= self.px_per_um <= high:
            raise ConfigError(
                f"karyogram.px_per_um is {self.px_per_um:g}; give a number from {low:g} to {high:g}"
            )
        for field in ("{patient_id}", "{cell_id}"):
            if self.names.count(field) != 1:
                raise ConfigError(f"karyogram.names is {self.names!r}; it needs {field} once")


def cut_karyograms(
    folder: Location,
    config: KaryogramConfig,
    output: Location,
    *,
    pages: Sequence[Cell] | None = None,
    made_of_it: Sequence[Location] = (),
) -> Location:
    """Cuts all karyograms of a folder into images of single chromosomes; returns their manifest.

    ``output`` is created. An interrupted run resumes at the page it was reading; a finished one of
    the same pictures and settings is kept. On a cluster all nodes must share the storage.

    Args:
        folder: the karyograms.
        config: their names, layout and scale.
        output: directory or URI of what is cut out.
        pages: what :func:`pages_of` has said of the folder, if it was asked.
        made_of_it: what was perhaps made of an earlier output, for the message.

    Raises:
        ManifestError: files cannot be assigned to cells.
        DataError: the layout is wrong, no page could be read, or the directory exists with other
            pictures or settings.
        StoreError: a picture cannot be read, or is gone.
    """
    if pages is None:
        pages = pages_of(folder, config)
    pages = _with_digests(pages, folder)
    layout = None if config.layout is None else read_layout(config.layout)
    settings: dict[str, Any] = {
        "job": "karyograms",
        "version": __version__,
        "program": PROGRAM,
        "pages": pages,
        "layout": None if layout is None else [list(row) for row in layout.rows],
        "px_per_um": config.px_per_um,
    }
    staging = Staging(output.absolute())
    manifest, kept = output / MANIFEST, output / _SETTINGS
    if is_published(output) and kept.exists():
        if read_json(kept) == settings:
            return manifest
        old = [str(one) for one in (output, *made_of_it) if one.exists()]
        raise DataError(
            f"{output}: exists already, and was cut from other pictures, with other settings or by "
            f"another version; remove {' and '.join(old)}, or choose another --output"
        )
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
    found = pd.concat(
        [pd.read_csv(io.StringIO(part), dtype=str, keep_default_na=False) for part in parts],
        ignore_index=True,
    )
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
        used[[*REQUIRED, "hospital", "band_level"]].to_csv(temporary, index=False)
    staging.publish()
    print(f"all that was found: {output / FOUND}; with outlines: {output / 'pages'}")
    return manifest


def pages_of(folder: Location, config: KaryogramConfig) -> list[Cell]:
    """The karyograms of a folder.

    Raises:
        ManifestError: names the first file or row that cannot be assigned to a cell.
    """
    there = [path for path in files_in(folder, recursive=True) if is_picture(path)]
    if not there:
        what = "picture" if folder.exists() else "such folder"
        raise ManifestError(f"{folder}: there is no {what}; give a folder of karyograms")
    if config.cells is None:
        hint = (
            "give the names' form with --karyogram.names, or a CSV of the cells with "
            "--karyogram.cells"
        )
        return cells_of_names(there, config.names, where=str(folder), hint=hint)
    cells = cells_of_list(config.cells, there, where="the folder")
    unlisted = sorted(set(there) - {cell["path"] for cell in cells})
    if unlisted:
        print(
            f"karyograms: {len(unlisted)} of the {len(there)} pictures of the folder are in no row "
            f"of {config.cells.name} and are left out, the first of them '{nfc(unlisted[0])}'"
        )
    return cells


def _with_digests(pages: Sequence[Cell], folder: Location) -> list[Cell]:
    """The pages with the SHA-256 of their files: a picture may change under its name."""
    digested = []
    with driver_bar(len(pages), "read", "karyogram") as bar:
        for page in pages:
            digested.append({**page, "sha256": _sha256(_content(folder / page["path"]))})
            bar.update()
    return digested


def _content(picture: Location) -> bytes:
    """Content of the file of a karyogram that was listed."""
    try:
        return read_content(picture, MAX_BYTES)
    except FileNotFoundError:
        raise StoreError(
            f"{picture}: was in the folder and is gone; give access to it, then repeat the command"
        ) from None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _cut_page(
    number: int,
    *,
    pages: Sequence[Cell],
    folder: Location,
    staging: Staging,
    layout: Layout | None,
    px_per_um: float | None,
) -> tuple[int, str]:
    """Cuts one page; returns 1 and what was found on it as CSV."""
    page = pages[number]
    done = staging.content / "pages" / f"{number:05d}.csv"
    if done.exists():
        return 1, done.read_text(encoding="utf-8")
    outlines = f"pages/{number:05d}.png"
    content = _content(folder / page["path"])
    if _sha256(content) != page["sha256"]:
        raise DataError(
            f"{folder / page['path']}: the picture has changed since cutting began; remove "
            f"{staging.root} and repeat the command"
        )
    try:
        picture = read_picture(io.BytesIO(content))
        read = find_chromosomes(picture, layout)
        karyogram, images = cut_out(read, px_per_um)
    except DataError as error:
        rows: list[dict[str, object]] = [
            {**page, "page": page["path"], "path": "", "reason": str(error)}
        ]
    else:
        rows, level = [], read.band_level
        for place, one in enumerate(karyogram.chromosomes, start=1):
            path = "" if one.reason else f"pages/{number:05d}/{one.chromosome}_{one.homolog}.png"
            top, left, bottom, right = one.box
            rows.append(
                {
                    **page,
                    "page": page["path"],
                    "outlines": outlines,
                    "path": path,
                    "number": place,
                    "chromosome": one.chromosome,
                    "homolog": "" if one.reason else one.homolog,
                    "probability": f"{one.probability:.4f}",
                    **{"top": top, "left": left, "bottom": bottom, "right": right},
                    "px_per_um": f"{px_per_um or karyogram.scale.px_per_um:.6g}",
                    "scale": "given" if px_per_um else karyogram.scale.source,
                    "estimated_level": level,
                    "layout": karyogram.layout.name,
                    "flags": " ".join(one.flags),
                    "reason": one.reason,
                }
            )
            if path:
                with staging.writing(path) as temporary:
                    Image.fromarray(images[place]).save(temporary, format="PNG")
        with staging.writing(outlines) as temporary:
            draw_outlines(picture, karyogram).save(temporary, format="PNG")
    text = pd.DataFrame(rows, columns=_COLUMNS).to_csv(index=False)
    with staging.writing(f"pages/{number:05d}.csv") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return 1, text


_COLUMNS: Final = [
    *("page", "outlines"),
    *("hospital", "patient_id", "cell_id", "band_level"),
    *("number", "chromosome", "homolog", "probability"),
    *("top", "left", "bottom", "right"),
    *("px_per_um", "scale", "estimated_level", "layout", "flags", "reason", "path"),
]


def _say(found: pd.DataFrame, num_pages: int) -> None:
    """Says what became of the pages."""
    unread = found[(found["reason"] != "") & (found["number"] == "")]
    left_out = found[(found["reason"] != "") & (found["number"] != "")]
    print(f"karyograms: {num_pages}, of which {len(unread)} could not be read")
    for page, reason in unread[["page", "reason"]].head(_MAX_NAMED).itertuples(index=False):
        print(f"  {page}: {reason}")
    if len(unread) > _MAX_NAMED:
        print(f"  and {len(unread) - _MAX_NAMED} more")
    print(f"chromosomes on them: {len(found) - len(unread)}, of which {len(left_out)} left out")
    kinds = left_out["reason"].str.split(":", n=1).str[0]
    for kind, count in kinds.value_counts().items():
        print(f"  {count:6d} {kind}")
    pages = found[found["number"] != ""].drop_duplicates("page")
    sources = pages["scale"].value_counts().items()
    if len(pages):
        print(f"scale from: {', '.join(f'{source} ({count})' for source, count in sources)}")
