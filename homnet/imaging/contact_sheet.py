"""A page of extractions for inspection: each image with its axis, next to its sequences."""

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from homnet.errors import DataError
from homnet.imaging.extraction import Extraction, ExtractionConfig, extract
from homnet.imaging.manifest import find_image
from homnet.imaging.reading import read_grey
from homnet.locations import Location

LEFT_COLOUR = "#0072b2"
RIGHT_COLOUR = "#d55e00"
_COLUMNS: Final = 10
"""Extractions per row."""


def sheet_of_manifest(rows: pd.DataFrame, folder: Location, config: ExtractionConfig) -> Figure:
    """Draws images with their axes (the dot is the p-arm's tip), and left and right sequences.

    Titles have flags, and the reason where an image cannot be used; unreadable ones are left empty.

    Args:
        rows: output of :func:`homnet.imaging.manifest.read_manifest`.
        folder: folder of the manifest.
        config: settings of the extraction.

    Returns:
        A figure without a window; save it with ``savefig``.
    """
    num_rows = -(-len(rows) // _COLUMNS)
    figure = Figure(figsize=(1.5 * _COLUMNS, 1.9 * num_rows), layout="constrained")
    axes = figure.subplots(
        num_rows, 2 * _COLUMNS, squeeze=False, width_ratios=[3, 2] * _COLUMNS
    ).reshape(-1, 2)
    for (image_axes, sequence_axes), row in zip(axes, rows.to_dict("records"), strict=False):
        try:
            image = read_grey(find_image(folder, row["path"]), max_side_px=config.max_side_px)
            extraction = extract(image, config)
        except DataError as error:
            image = np.full((1, 1), 255, np.uint8)
            extraction = Extraction.unusable(str(error))
        lines = [
            f"row {row['row']}: {row['chromosome']}",
            ", ".join(extraction.flags),
            extraction.reason or "",
        ]
        image_axes.set_title("\n".join(line for line in lines if line), fontsize=5)
        image_axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        image_axes.plot(extraction.axis_A2[:, 1], extraction.axis_A2[:, 0], color="red", lw=1.0)
        image_axes.plot(
            extraction.axis_A2[:1, 1], extraction.axis_A2[:1, 0], "o", color="red", ms=2
        )
        _draw_sequences(sequence_axes, extraction)
    for one in axes.flat:
        one.set_axis_off()
    return figure


def _draw_sequences(axes: Axes, extraction: Extraction) -> None:
    if extraction.sequence_CL is None:
        return
    num_samples = len(extraction.axis_A2)
    for sequence_L, colour in zip(extraction.sequence_CL, (LEFT_COLOUR, RIGHT_COLOUR), strict=True):
        axes.plot(sequence_L[:num_samples], np.arange(num_samples), color=colour, lw=0.7)
    axes.set(xlim=(0, 255), ylim=(num_samples, 0))
