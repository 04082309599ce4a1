"""A laboratory's list of images: a CSV file with one row per chromosome image."""

import warnings
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Final

import pandas as pd

from homnet.errors import ManifestError
from homnet.karyotype.chromosomes import BAND_LEVELS, CHROMOSOMES

REQUIRED: Final = ("path", "patient_id", "cell_id", "chromosome", "homolog")
OPTIONAL: Final = ("hospital", "band_level", "abnormal", "kind")
CHROMOSOME_KEY: Final = ["hospital", "patient_id", "cell_id", "chromosome"]
"""Columns that identify a pair."""
_TRUTH: Final = {
    **dict.fromkeys(("", "0", "false", "no"), False),
    **dict.fromkeys(("1", "true", "yes"), True),
}


def read_manifest(
    path: Path, *, hospital: str, band_level: int, content: IO[bytes] | None = None
) -> pd.DataFrame:
    """Reads and checks a manifest.

    Rows are numbered as in a spreadsheet: the header is row 1.

    Args:
        path: a CSV file with the columns of :data:`REQUIRED`, and any of :data:`OPTIONAL`.
            ``path`` is relative to the manifest's folder; ``homolog`` is 0 or 1, and 2 to 9 for
            surplus copies, which do not fit into a pair.
        hospital: default for rows without a hospital.
        band_level: default for rows without a band level.
        content: the CSV content; ``path`` is then only its name in messages.

    Returns:
        All rows, sorted by :data:`CHROMOSOME_KEY` and homolog, with the columns ``row`` and those
        of :data:`REQUIRED` and :data:`OPTIONAL`: ``homolog`` and ``band_level`` int64,
        ``abnormal`` bool, the others str; ``kind`` is empty if unknown.

    Raises:
        ManifestError: names the file and the first bad row.
    """
    frame: pd.DataFrame = _read_csv(path, path if content is None else content)
    for name, default in (("hospital", hospital), ("band_level", str(band_level))):
        if name not in frame:
            frame[name] = ""
        frame[name] = frame[name].mask(frame[name] == "", default)
    for name in ("abnormal", "kind"):
        if name not in frame:
            frame[name] = ""
    frame = frame[["row", *REQUIRED, *OPTIONAL]]

    levels = [str(level) for level in BAND_LEVELS]
    truth = frame["abnormal"].str.lower().map(_TRUTH)
    cells = frame.groupby(CHROMOSOME_KEY[:3])["band_level"]
    for name, bad, hint in (
        *((name, frame[name] == "", "give a value") for name in ("path", "patient_id", "cell_id")),
        ("path", frame["path"].map(_leads_outside), "give a path inside the manifest's folder"),
        (
            "hospital",
            ~frame["hospital"].str.fullmatch(r"[\w-][\w.-]*"),
            "use letters, digits, '.', '_' and '-' only",
        ),
        ("chromosome", ~frame["chromosome"].isin(CHROMOSOMES), "expected 1..22, X or Y"),
        (
            "homolog",
            ~frame["homolog"].str.fullmatch("[0-9]"),
            "expected 0 or 1, or 2 to 9 for a further copy",
        ),
        ("band_level", ~frame["band_level"].isin(levels), f"expected {', '.join(levels)}"),
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
            "band_level",
            frame["band_level"] != cells.transform("first"),
            "an earlier row of this cell states another; a cell has one band level",
        ),
    ):
        if bad.any():
            first = frame[bad].iloc[0]
            raise ManifestError(f"{path}: row {first['row']}: '{name}' is {first[name]!r}; {hint}")
    frame = frame.assign(
        homolog=frame["homolog"].astype("int64"),
        band_level=frame["band_level"].astype("int64"),
        abnormal=truth.astype(bool),
    )
    return frame.sort_values([*CHROMOSOME_KEY, "homolog"], ignore_index=True)


def _read_csv(path: Path, source: Path | IO[bytes]) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            # Rows longer than the header would be truncated with only a warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                source, dtype=str, keep_default_na=False, index_col=False, skip_blank_lines=False
            ).fillna("")
    except FileNotFoundError:
        raise ManifestError(f"{path}: there is no such file; give a manifest CSV") from None
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise ManifestError(f"{path}: not a readable CSV file ({reason})") from None
    missing = [name for name in REQUIRED if name not in frame]
    if missing:
        raise ManifestError(
            f"{path}: row 1: column '{missing[0]}' is missing; it has {', '.join(frame.columns)}"
        )
    frame = frame[[name for name in (*REQUIRED, *OPTIONAL) if name in frame]]
    frame = frame.apply(lambda column: column.str.strip())
    blank = (frame == "").all(axis=1)
    frame = frame.assign(row=range(2, len(frame) + 2)).loc[~blank]
    if frame.empty:
        raise ManifestError(f"{path}: row 1: there is no row below the header; list the images")
    return pd.DataFrame(frame)


def _leads_outside(text: str) -> bool:
    """Whether a path is absolute or leaves its folder, on any operating system."""
    for path in (PurePosixPath(text), PureWindowsPath(text)):
        if path.is_absolute() or path.drive or ".." in path.parts or text.startswith("\\"):
            return True
    return False
