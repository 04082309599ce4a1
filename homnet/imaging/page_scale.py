"""Finds how many pixels of a karyogram's page a micrometre has.

Lengths of the chromosomes at their band level always give an estimate, which differs between
preparations by a tenth or two. It tells which of the more exact sources can be believed: a printed
scale bar, and the resolution that the file states, which often is that of a printer.

Shape suffixes: H rows, W columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final, Literal

import numpy as np

from homnet.imaging.page_parts import Bar, Box, Word, around, middle
from homnet.imaging.printed_numbers import log_likelihoods

Source = Literal["scale bar", "file", "chromosomes", "chromosomes (against the scale bar)"]
"""The last: the lengths of the chromosomes contradict a scale bar that states its length."""

_LENGTHS_UM: Final = (1, 2, 5, 10, 15, 20, 25, 30, 50, 100)
"""Lengths of scale bars."""
_UNITS: Final = (" µm", " um", "µm", "um")
_LABELS: Final = tuple(f"{length}{unit}" for length in _LENGTHS_UM for unit in _UNITS)
_AGREES: Final = 1.35
"""Ratio of another source to the estimate up to which it is believed."""
_REACH: Final = 3.0
"""Distance of a label from its bar, in heights of the label."""


@dataclass(frozen=True)
class Scale:
    """Scale of a page and where it comes from."""

    px_per_um: float
    """Pixels of the page per micrometre."""
    source: Source
    """What told it."""


def find_scale(
    estimated_px_per_um: float,
    bars: Sequence[Bar],
    words: Sequence[Word],
    file_px_per_um: float | None,
) -> Scale:
    """Chooses the most exact source that agrees with the lengths of the chromosomes.

    Args:
        estimated_px_per_um: pixels per micrometre by the lengths of the chromosomes.
        bars: strokes that may be scale bars.
        words: printed words, in the pixels of the bars.
        file_px_per_um: pixels per micrometre that the file states, if it does.
    """
    lengths: Source = "chromosomes"
    for bar in bars:
        label = _label(bar.box, words)
        length_um = None if label is None else _length_um(label)
        if length_um is None:
            continue
        if _agree(bar.length_px / length_um, estimated_px_per_um):
            return Scale(bar.length_px / length_um, "scale bar")
        lengths = "chromosomes (against the scale bar)"
    if file_px_per_um is not None and _agree(file_px_per_um, estimated_px_per_um):
        return Scale(file_px_per_um, "file")
    return Scale(estimated_px_per_um, lengths)


def _agree(one: float, other: float) -> bool:
    return max(one / other, other / one) <= _AGREES


def _label(bar: Box, words: Sequence[Word]) -> Word | None:
    """The words above or below a bar as one; None if there are none."""
    near = []
    for word in words:
        row, column = middle(word.box)
        height = word.box[2] - word.box[0]
        away = max(bar[0] - row, row - bar[2])
        if bar[1] - height <= column <= bar[3] + height and away <= _REACH * height:
            near.append(word)
    if not near:
        return None
    # Those on the line of the nearest one.
    first = min(near, key=lambda word: abs(middle(word.box)[0] - (bar[0] + bar[2]) / 2))
    line = [word for word in near if word.box[0] < first.box[2] and word.box[2] > first.box[0]]
    box = reduce(around, (word.box for word in line))
    darkness_HW = np.zeros((box[2] - box[0], box[3] - box[1]), np.float32)
    for word in line:
        top, left, bottom, right = word.box
        part_HW = darkness_HW[top - box[0] : bottom - box[0], left - box[1] : right - box[1]]
        np.maximum(part_HW, word.darkness_HW, out=part_HW)
    return Word(box, darkness_HW)


def _length_um(label: Word) -> int | None:
    """The length that a label names; None if it names none."""
    log_K = log_likelihoods([label], _LABELS)[0]
    best = int(np.argmax(log_K))
    return _LENGTHS_UM[best // len(_UNITS)] if log_K[best] > 0 else None
