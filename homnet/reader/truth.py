"""Targets of a reader: kind and place of the abnormality that one chromosome type shows.

An abnormality has two places. The *extent* is the part of the abnormal chromosome where its
sequence is changed. The *segment* is the part of the reference chromosome that is deleted,
duplicated, inverted or exchanged. A deletion of 40 Mb has a segment of 40 Mb, but its extent is
only a junction.

Shape suffixes: N pairs, B bags, K cells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from homnet.bags.draw import Bags, PairIndex
from homnet.bags.epochs import Epoch
from homnet.errors import DataError
from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.chromosomes import CHROMOSOMES, SEQUENCE_LENGTH
from homnet.karyotype.kinds import ARTIFICIAL, NO_ABNORMALITY, SHOWN, SHOWN_AS
from homnet.reader.places import share_of_mb

UNKNOWN: Final = -1
"""Code of a kind that is neither trained on nor counted."""
KIND_CODE: Final[Mapping[str, int]] = {name: code for code, name in enumerate(SHOWN)}
SEGMENT_COLUMNS: Final = ("shown_kind", "segment_start_mb", "segment_stop_mb")
"""Columns that :func:`with_segments` adds to the rows of a cohort."""


class Segment(NamedTuple):
    """The part of the reference chromosome that an abnormality changes, and the kind shown."""

    kind: str
    """One of :data:`homnet.karyotype.kinds.SHOWN`."""
    start_mb: float
    """Breakpoint nearer the tip of the short arm; 0 where the segment extends to that tip."""
    stop_mb: float
    """The other breakpoint; the chromosome's length where the segment extends to the tip of the
    long arm. Equal to ``start_mb`` for an insertion."""


def segment_of(
    kind: str, chromosome: str, breakpoints: Sequence[Mapping[str, Any]]
) -> Segment | None:
    """The segment of an abnormality on one of the types that it breaks.

    Deletion, duplication and inversion: the part deleted, duplicated or inverted. Exchanged and
    added ends: from the breakpoint to the lost tip. Robertsonian and isochromosome: the lost arm.
    Ring: from break to break; the lost parts lie outside. Insertion: the insertion point; within
    one chromosome everything from the fragment to its new place. The chromosome that gave the
    fragment shows a deletion.

    Args:
        kind: kind in the cohort.
        chromosome: the type to describe.
        breakpoints: as in a cohort's column: chromosome, band and mb of each.

    Returns:
        The segment, or None if the cohort's data are insufficient.

    Raises:
        DataError: breakpoints and kind are inconsistent.
    """
    own = [at for at in breakpoints if at["chromosome"] == chromosome]
    if kind not in SHOWN_AS or not own or any(at["mb"] is None for at in own):
        return None
    mb = sorted(float(at["mb"]) for at in own)
    bands = band_table(FINEST_LEVEL)[chromosome]
    length_mb, centromere_mb = bands.length_bp / 1e6, bands.centromere_bp / 1e6
    shown = SHOWN_AS[kind]
    match kind:
        case "robertsonian":
            return Segment(shown, 0.0, mb[0])
        case "isochromosome" if not own[0]["band"]:
            return None
        case "isochromosome":
            kept_q = str(own[0]["band"]).startswith("q")
            return Segment(shown, 0.0, mb[0]) if kept_q else Segment(shown, mb[0], length_mb)
        case "insertion":
            if breakpoints[0]["chromosome"] != chromosome:
                shown = "deletion"
            return Segment(shown, mb[0], mb[-1])
        case "deletion" | "translocation" | "addition" if len(mb) == 1:
            # Near the centromere, the band determines the arm more reliably than megabases.
            on_p = mb[0] < centromere_mb
            if own[0]["band"]:
                on_p = str(own[0]["band"]).startswith("p")
            return Segment(shown, 0.0, mb[0]) if on_p else Segment(shown, mb[0], length_mb)
        case "deletion" | "duplication" | "inversion" | "ring" if len(mb) == 2:
            return Segment(shown, mb[0], mb[1])
    raise DataError(f"{kind} with {len(mb)} breakpoints on chromosome {chromosome}")


def with_segments(table: pa.Table) -> pa.Table:
    """Adds :data:`SEGMENT_COLUMNS` to rows of a cohort; null if normal or without truth.

    Raises:
        DataError: see :func:`segment_of`.
    """
    found: list[Segment | None] = [None] * table.num_rows
    abnormal_N = np.nonzero(table["abnormal"].to_numpy())[0]
    rows = table.select(["kind", "chromosome", "breakpoints"]).take(abnormal_N).to_pylist()
    for number, row in zip(abnormal_N.tolist(), rows, strict=True):
        if row["kind"] is not None and row["breakpoints"]:
            found[number] = segment_of(row["kind"], row["chromosome"], row["breakpoints"])
    for place, (name, kind) in enumerate(
        zip(SEGMENT_COLUMNS, (pa.string(), pa.float64(), pa.float64()), strict=True)
    ):
        values = [None if segment is None else segment[place] for segment in found]
        table = table.append_column(name, pa.array(values, kind))
    return table


@dataclass(frozen=True)
class Targets:
    """Truth of B bags. The first axis of all arrays is B."""

    kind_B: NDArray[np.int64]
    """Code in :data:`homnet.karyotype.kinds.SHOWN`; ``UNKNOWN`` where unknown."""
    segment_B2: NDArray[np.float64]
    """First and last share of the segment on the reference chromosome, exactly 0 or 1 at a tip; NaN
    if there is none or it is unknown."""
    abnormal_BK: NDArray[np.bool_]
    """Whether the pair of a cell is abnormal; in a mosaic not all are."""
    homolog_BK: NDArray[np.int64]
    """Abnormal homolog of an abnormal pair; -1 if there is none or it is unknown."""
    extent_BK2: NDArray[np.float64]
    """First and last share of the extent on that homolog; NaN as above."""

    def take(self, index: Any) -> Self:
        """Selects bags by index or slice."""
        return replace(self, **{name: value[index] for name, value in vars(self).items()})

    @classmethod
    def of(cls, epoch: Epoch, index: PairIndex) -> Self:
        """Makes the truth of the bags of an epoch, from its artificial events or from the cohort.

        Args:
            epoch: bags.
            index: the pairs they were drawn from; for the cohort's labels, with the columns of
                :func:`with_segments`.
        """
        if epoch.events is not None:
            return cls(**_of_events(epoch, index))
        return cls(**_of_cohort(epoch.bags, index))


def _of_cohort(bags: Bags, index: PairIndex) -> dict[str, Any]:
    frame = index.frame
    shown_N = np.array(
        [KIND_CODE.get(name, UNKNOWN) for name in frame["shown_kind"]], dtype=np.int64
    )
    shown_N[~frame["abnormal"].to_numpy(bool)] = KIND_CODE[NO_ABNORMALITY]
    share_N2 = np.full((len(frame), 2), np.nan)
    type_N = frame["chromosome"].to_numpy(np.int64)
    mb_N2 = frame[list(SEGMENT_COLUMNS[1:])].to_numpy(np.float64)
    for n in np.nonzero(np.isfinite(mb_N2[:, 0]))[0].tolist():
        name = CHROMOSOMES[type_N[n]]
        share_N2[n] = [share_of_mb(name, mb) for mb in mb_N2[n].tolist()]
    row_BK = bags.row_BK
    abnormal_N = frame["abnormal"].to_numpy(bool)
    abnormal_BK: NDArray[np.bool_] = np.asarray(abnormal_N[row_BK] & bags.mask_BK)
    # All abnormal pairs of a bag have the same event, so the first represents the bag.
    first_B = row_BK[np.arange(len(row_BK)), abnormal_BK.argmax(axis=1)]
    abnormal_B: NDArray[np.bool_] = np.asarray(abnormal_BK.any(axis=1))
    homolog_N = frame["homolog"].fillna(-1).to_numpy(np.int64)
    homolog_BK = np.where(abnormal_BK, homolog_N[row_BK], -1)
    length_BK = index.codes.length_NP[row_BK, homolog_BK.clip(0)]
    extent_N2 = frame[["start", "stop"]].to_numpy(np.float64)
    known_BK = (homolog_BK >= 0)[..., None]
    return {
        "kind_B": np.where(abnormal_B, shown_N[first_B], KIND_CODE[NO_ABNORMALITY]),
        "segment_B2": np.where(abnormal_B[:, None], share_N2[first_B], np.nan),
        "abnormal_BK": abnormal_BK,
        "homolog_BK": homolog_BK,
        "extent_BK2": np.where(known_BK, extent_N2[row_BK] / length_BK[..., None], np.nan),
    }


_OF_ARTIFICIAL: Final = np.array(
    [KIND_CODE.get(SHOWN_AS.get(kind, ""), UNKNOWN) for kind in ARTIFICIAL]
)


def _of_events(epoch: Epoch, index: PairIndex) -> dict[str, Any]:
    """Segments and extents of artificial events, computed from their pieces.

    A wrong pair is a mix-up and has no kind; its cells still count as abnormal.
    """
    events, bags = epoch.events, epoch.bags
    assert events is not None
    name_B = np.asarray(ARTIFICIAL, object)[events.kind_B]
    abnormal_BK = events.abnormal_B[:, None] & bags.mask_BK
    homolog_BK = np.where(abnormal_BK, events.homolog_BK, -1)
    length_BK = index.codes.length_NP[bags.row_BK, events.homolog_BK]
    first_BK, last_BK = events.truth_BK2[..., 0], events.truth_BK2[..., 1]
    # Location of the segment on the chromosome before the event.
    size_BK = last_BK - first_BK
    start_BK, stop_BK = first_BK.copy(), last_BK.copy()
    deletion = name_B == "deletion"
    start_BK[deletion] = events.stop_BKQ[deletion, :, 0]
    gone_BK = length_BK - events.stop_BKQ[..., -1]
    stop_BK[deletion] = (start_BK + gone_BK)[deletion]
    duplication = name_B == "duplication"
    start_BK[duplication] = (first_BK - size_BK)[duplication]
    stop_BK[duplication] = first_BK[duplication]
    addition = name_B == "addition"
    stop_BK[addition] = start_BK[addition]
    # For an exchange, the end that the chromosome lost.
    exchange = name_B == "translocation"
    kept_BK = events.origin_BKQ[..., 1]
    kept_until_BK = kept_BK + events.stop_BKQ[..., 1] - events.stop_BKQ[..., 0]
    on_short_arm_BK = kept_BK > 0
    start_BK[exchange] = np.where(on_short_arm_BK, 0, kept_until_BK)[exchange]
    stop_BK[exchange] = np.where(on_short_arm_BK, kept_BK, length_BK)[exchange]
    share_BK2 = np.stack([start_BK, stop_BK], axis=-1) / length_BK[..., None]
    share_BK2 = np.where(abnormal_BK[..., None], share_BK2, np.nan)
    segment_B2 = _means(share_BK2)
    centromere_T = np.array(
        [bands.centromere_iscn / bands.length_iscn for bands in band_table(FINEST_LEVEL).values()]
    )
    robertsonian = name_B == "robertsonian"
    segment_B2[robertsonian, 0] = 0.0
    segment_B2[robertsonian, 1] = centromere_T[bags.chromosome_B[robertsonian]]
    segment_B2[name_B == "wrong_pair"] = np.nan
    # What is longer than a sequence is cut off.
    stop_BK = np.minimum(events.stop_BKQ[..., -1], SEQUENCE_LENGTH)
    after_BK = np.where(homolog_BK >= 0, stop_BK, 1)
    extent_BK2 = events.truth_BK2 / after_BK[..., None]
    return {
        "kind_B": _OF_ARTIFICIAL[events.kind_B],
        "segment_B2": segment_B2,
        "abnormal_BK": abnormal_BK,
        "homolog_BK": homolog_BK,
        "extent_BK2": np.where(abnormal_BK[..., None], extent_BK2, np.nan).clip(0, 1),
    }


def _means(share_BK2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over the cells that have a value; NaN without any."""
    known_BK2 = np.isfinite(share_BK2)
    count_B2 = known_BK2.sum(axis=1)
    total_B2 = np.where(known_BK2, share_BK2, 0.0).sum(axis=1)
    return np.where(count_B2 > 0, total_B2 / np.maximum(count_B2, 1), np.nan)
