"""A page of extractions for inspection: each image with its axis, next to its sequences."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from homnet.errors import DataError
from homnet.imaging.extraction import Extraction, ExtractionConfig, extract
from homnet.imaging.manifest import find_image
from homnet.imaging.reading import read_grey
from homnet.locations import Location

LEFT_COLOUR = "#0072b2"
RIGHT_COLOUR = "#d55e00"


def sheet_of_manifest(rows: pd.DataFrame, folder: Location, config: ExtractionConfig) -> Figure:
    """A :func:`contact_sheet` of the images of a manifest; unreadable images are left empty.

    Args:
        rows: output of :func:`homnet.imaging.manifest.read_manifest`.
        folder: folder of the manifest.
        config: settings of the extraction.
    """
    images, extractions, titles = [], [], []
    for row in rows.to_dict("records"):
        titles.append(f"row {row['row']}: {row['chromosome']}")
        try:
            image = find_image(folder, row["path"])
            images.append(read_grey(image, max_side_px=config.max_side_px))
            extractions.append(extract(images[-1], config))
        except DataError as error:
            images.append(np.full((1, 1), 255, np.uint8))
            extractions.append(Extraction.unusable(str(error)))
    return contact_sheet(images, extractions, titles=titles)


def contact_sheet(
    images: Sequence[NDArray[np.uint8]],
    extractions: Sequence[Extraction],
    *,
    titles: Sequence[str] | None = None,
    num_columns: int = 10,
) -> Figure:
    """Draws images with their axes (the dot is the p-arm's tip), and left and right sequences.

    Args:
        images: grey levels (H, W) of each image.
        extractions: extraction of each image.
        titles: title of each image; none by default. Flags and reasons are appended.
        num_columns: number of extractions per row.

    Returns:
        A figure without a window; save it with ``savefig``.
    """
    num_rows = -(-len(images) // num_columns)
    figure = Figure(figsize=(1.5 * num_columns, 1.9 * num_rows), layout="constrained")
    axes = figure.subplots(
        num_rows, 2 * num_columns, squeeze=False, width_ratios=[3, 2] * num_columns
    ).reshape(-1, 2)
    for (image_axes, sequence_axes), image, extraction, title in zip(
        axes, images, extractions, titles or [""] * len(images), strict=False
    ):
        lines = [title, ", ".join(extraction.flags), extraction.reason or ""]
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
