"""Combines images of single chromosomes into pairs, for ingest and endpoint.

Every image gets a sequence, or a reason why it has none. The usable images of one type in one cell
form a pair. Shape suffixes: I images, N pairs, P homologs, C chromatids, L positions.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import IO, Any, Final, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from homnet.cohorts.pairs import (
    ENDS_UNCERTAIN,
    LEVEL_DOUBTED,
    LEVEL_ESTIMATED,
    PAIR_SHAPE,
    SAME_PIXELS,
    SCHEMA,
    SINGLE_HOMOLOG,
    THIRD_COPY,
    TURNED,
    pair_table,
)
from homnet.errors import DataError
from homnet.imaging.band_level import FAR_APART, levels_apart, shipped_estimator
from homnet.imaging.extraction import Extraction, ExtractionConfig, extract
from homnet.imaging.manifest import CHROMOSOME_KEY, UNKNOWN_LEVEL
from homnet.imaging.orientation import Orientation, turn
from homnet.imaging.reading import read_grey
from homnet.karyotype.chromosomes import CHROMOSOME_INDEX
from homnet.locations import Location

SURPLUS: Final = "a further copy: a pair has room for two homologs"
"""Why a third copy has no sequence; it is no fault of its image."""

_NOTED: Final = {
    "several_parts": "a second dark part of the picture was left out",
    "uneven_width": "its width changes along the axis: perhaps it is two chromosomes",
    "ends_level": "it may lie on its side",
}
"""What is said of an image that is used, by its flag."""
MAX_WIDTH: Final = 1.4
"""Width over the median of the cell's chromosomes. Of real single ones one in a thousand reaches
it, and is folded; of two homologs side by side nearly nine in ten do (LAB.md, 2026-12-01)."""
_FEWEST_OF_LEVEL: Final = 16
"""Number of images of a cell from which its bands can overrule a stated level: fewer may seem two
levels poorer by chance (LAB.md, 2026-12-01)."""
_FEWEST_WIDTHS: Final = 10
"""Number of images of a cell from which their median width is known."""
Source = Location | IO[bytes] | NDArray[np.uint8]
"""An image file, or the grey levels (H, W) of an image."""


def measure_image(source: Source, homolog: int, config: ExtractionConfig) -> Extraction:
    """Extracts the sequence of one chromosome image, or the reason why it has none.

    Args:
        source: the image.
        homolog: number in the manifest; copies from 2 on do not fit into a pair.
        config: settings of the extraction.
    """
    if homolog > 1:
        return Extraction.unusable(SURPLUS)
    if isinstance(source, np.ndarray):
        return extract(source, config)
    try:
        image_HW = read_grey(source, max_side_px=config.max_side_px)
    except DataError as error:
        return Extraction.unusable(str(error))
    return extract(image_HW, config)


def measure_rows(
    rows: pd.DataFrame,
    open_image: Callable[[Mapping[str, Any]], Source],
    config: ExtractionConfig,
) -> pd.DataFrame:
    """Adds measurements to the rows of a manifest.

    Args:
        rows: output of :func:`homnet.imaging.manifest.read_manifest`.
        open_image: returns the image of a row.
        config: settings of the extraction.

    Returns:
        The rows with ``sequence`` (bytes of the darkness (2, 512), empty if unusable),
        ``straightness``, ``width_px``, ``width_variation``, ``flags`` (separated by spaces),
        ``reason`` (why there is no sequence; empty if there is one), ``note`` (what a reader of a
        verdict should know of an image that is used, else empty), and empty ``cell_flags``.
    """
    measured = [
        measure_image(open_image(row), row["homolog"], config)
        for row in cast(list[dict[str, Any]], rows.to_dict("records"))
    ]
    return rows.assign(
        sequence=[
            b"" if one.sequence_CL is None else one.sequence_CL.tobytes() for one in measured
        ],
        straightness=[one.straightness for one in measured],
        width_px=[one.width_px for one in measured],
        width_variation=[one.width_variation for one in measured],
        flags=[" ".join(one.flags) for one in measured],
        reason=[one.reason or "" for one in measured],
        note=[
            "; ".join(_NOTED[flag] for flag in one.flags if flag in _NOTED and not one.reason)
            for one in measured
        ],
        cell_flags="",
    )


def leave_out_wide(images: pd.DataFrame) -> pd.DataFrame:
    """Leaves out images that are much wider than the others of their cell.

    The chromosomes of a cell have one width. Two side by side, one across another, and one folded
    onto itself are wider, and were measured along a line that is not their axis.

    Args:
        images: output of :func:`measure_rows`: all images of each cell.

    Returns:
        The images; wide ones have a reason and no sequence.
    """
    images = images.reset_index(drop=True)  # rows are found again by their label
    used = images[images["reason"] == ""]
    widths = used.groupby(CHROMOSOME_KEY[:3])["width_px"]
    usual = widths.transform("median").where(widths.transform("size") >= _FEWEST_WIDTHS)
    for row in usual.index[used["width_px"] > MAX_WIDTH * usual]:
        images.loc[row, ["sequence", "note", "reason"]] = (
            b"",
            "",
            f"too wide: {used['width_px'][row]:.0f} pixels, where half of its cell have at most "
            f"{usual[row]:.0f}; it is folded, or another lies across it or beside it; cut it out "
            "again, or leave it out",
        )
    return images


def note_same_pixels(
    images: pd.DataFrame, names: "pd.Series[str]", seen: dict[bytes, str]
) -> pd.DataFrame:
    """Notes images that show the same chromosome as an earlier one: equal sequences are no chance.

    Args:
        images: output of :func:`measure_rows`.
        names: what notes call the images.
        seen: names of the first images by digest of their sequence; new ones are added.

    Returns:
        The images; the ``note`` of those that are alike names both, and they have the flag
        :data:`SAME_PIXELS`.
    """
    notes = []
    for name, sequence in zip(names, images["sequence"], strict=True):
        digest = hashlib.blake2b(sequence, digest_size=16).digest()
        first = seen.setdefault(digest, name) if sequence else name
        notes.append("" if first == name else f"{name} has the same pixels as {first}")
    found = pd.Series(notes, index=images.index, dtype=str)
    flags = images["flags"].where(found == "", (images["flags"] + f" {SAME_PIXELS}").str.strip())
    both = zip(images["note"], found, strict=True)
    return images.assign(flags=flags, note=["; ".join(filter(None, pair)) for pair in both])


def files_of_pairs(images: pd.DataFrame) -> dict[tuple[str, str, str, str], tuple[str, ...]]:
    """Paths of the images of each pair, in order of its homologs.

    Args:
        images: output of :func:`measure_rows`, or a manifest without its unusable images.

    Returns:
        One or two paths by hospital, patient, cell and chromosome.
    """
    used = images[images["homolog"] <= 1]
    if "reason" in used:
        used = used[used["reason"] == ""]
    keys = [used[name] for name in CHROMOSOME_KEY]
    return cast(
        dict[tuple[str, str, str, str], tuple[str, ...]],
        used["path"].groupby(keys, sort=False).agg(tuple).to_dict(),
    )


def set_upright(images: pd.DataFrame, *, on_karyogram: bool) -> pd.DataFrame:
    """Turns the chromosomes that certainly lie upside down, and flags them and the uncertain ones.

    Args:
        images: output of :func:`measure_rows`: all images of each patient, because the chromosomes
            of a patient are compared with each other.
        on_karyogram: whether they were cut out of karyograms, on which most stand upright.

    Returns:
        The same rows; ``sequence`` and ``flags`` of some are changed.
    """
    usable = np.flatnonzero(images["reason"] == "")
    if not len(usable):
        return images
    rows = images.iloc[usable]
    sequence_NCL = np.frombuffer(b"".join(rows["sequence"]), np.uint8).reshape(-1, *PAIR_SHAPE[1:])
    found = Orientation.of(
        sequence_NCL,
        np.array([CHROMOSOME_INDEX[name] for name in rows["chromosome"]], np.int64),
        np.asarray(rows.groupby(["hospital", "patient_id", "chromosome"]).ngroup(), np.int64),
        on_karyogram=on_karyogram,
    )
    sequences, flags = images["sequence"].tolist(), images["flags"].tolist()
    for which_N, flag in ((found.upside_down_N, TURNED), (found.uncertain_N, ENDS_UNCERTAIN)):
        for row in usable[which_N]:
            flags[row] = f"{flags[row]} {flag}".strip()
    down_N = found.upside_down_N
    for row, turned_CL in zip(usable[down_N], turn(sequence_NCL[down_N]), strict=True):
        sequences[row] = turned_CL.tobytes()
    return images.assign(sequence=sequences, flags=flags)


def set_band_levels(images: pd.DataFrame) -> pd.DataFrame:
    """Estimates the band levels that are not stated, and notes stated ones that cannot be.

    Args:
        images: output of :func:`set_upright`: all images of each cell.

    Returns:
        The same rows. The ``cell_flags`` of usable ones are :data:`LEVEL_ESTIMATED` if the band
        level of the cell was estimated, and :data:`LEVEL_DOUBTED` if its bands are two or more
        levels from the stated one; then the first of the cell has a note. Poorer bands than stated
        count as they look, if there are images enough: small or blurred pictures show no more than
        that, whoever looked at the slide.
    """
    images = images.reset_index(drop=True)  # rows are found again by their label
    rows = images[images["reason"] == ""]
    if rows.empty:
        return images
    cells = rows.groupby(CHROMOSOME_KEY[:3], sort=False)
    level_G = shipped_estimator().estimate(
        np.frombuffer(b"".join(rows["sequence"]), np.uint8).reshape(-1, *PAIR_SHAPE[1:]),
        np.array([CHROMOSOME_INDEX[name] for name in rows["chromosome"]], np.int64),
        np.asarray(cells.ngroup(), np.int64),
    )
    for (_, own), estimated in zip(cells, level_G.tolist(), strict=True):
        first, stated = own.index[0], int(own["band_level"].iloc[0])
        if stated == UNKNOWN_LEVEL:
            images.loc[own.index, ["band_level", "cell_flags"]] = estimated, LEVEL_ESTIMATED
        elif levels_apart(stated, estimated) >= FAR_APART:
            note = f"its cell is stated to have {stated} bands and looks like {estimated}"
            if estimated < stated and len(own) >= _FEWEST_OF_LEVEL:
                note += ", which counts"
                images.loc[own.index, "band_level"] = estimated
            before = images.loc[first, "note"]
            images.loc[first, "note"] = f"{before}; {note}" if before else note
            images.loc[own.index, "cell_flags"] = LEVEL_DOUBTED
    return images


def pair_up(images: pd.DataFrame) -> pa.Table:
    """Combines the homologs of each type in each cell into a pair.

    Args:
        images: output of :func:`set_band_levels`, homologs in order. The first usable homolog gets
            index 0; a pair with one image is flagged ``single_homolog``.

    Returns:
        Rows of :data:`homnet.cohorts.pairs.SCHEMA`, in order of first appearance.
    """
    usable = images[images["reason"] == ""]
    if usable.empty:
        return SCHEMA.empty_table()
    # A further copy is not measured, but verdicts say that it was there.
    more = images[images["homolog"] > 1].groupby(CHROMOSOME_KEY).size().rename("more")
    groups = usable.groupby(CHROMOSOME_KEY, sort=False)
    pair_I, homolog_I = groups.ngroup().to_numpy(), groups.cumcount().to_numpy()
    rows = groups.agg(
        band_level=("band_level", "first"),
        straightness=("straightness", "min"),
        width_variation=("width_variation", "max"),
        flags=("flags", _flags_of_pair),
        cell_flags=("cell_flags", "first"),
    )
    # Labels are taken from all images, including unusable ones.
    truth = images.groupby(CHROMOSOME_KEY).agg(abnormal=("abnormal", "any"), kind=("kind", "max"))
    rows = rows.join(truth).join(more).reset_index()
    rows["flags"] = [
        [*flags, *[THIRD_COPY] * (more > 0), *cell_flags.split()]
        for flags, more, cell_flags in zip(
            rows["flags"], rows["more"], rows["cell_flags"], strict=True
        )
    ]
    pair_NPCL = np.zeros((len(rows), *PAIR_SHAPE), np.uint8)
    pair_NPCL[pair_I, homolog_I] = np.frombuffer(b"".join(usable["sequence"]), np.uint8).reshape(
        -1, *PAIR_SHAPE[1:]
    )
    abnormal_NP = np.zeros((len(rows), 2), bool)
    abnormal_NP[pair_I, homolog_I] = usable["abnormal"]
    quality = rows[["straightness", "width_variation", "flags"]].to_dict("records")
    return pair_table(
        **{name: rows[name].tolist() for name in (*CHROMOSOME_KEY, "band_level", "abnormal")},
        pair=pair_NPCL,
        kind=[kind or None for kind in rows["kind"]],
        homolog=[int(which.argmax()) if which.sum() == 1 else None for which in abnormal_NP],
        quality=cast(list[dict[str, Any]], quality),
    )


def _flags_of_pair(flags: "pd.Series[str]") -> list[str]:
    return sorted(set(" ".join(flags).split())) + [SINGLE_HOMOLOG] * (len(flags) == 1)
