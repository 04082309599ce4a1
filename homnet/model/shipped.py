"""The model that comes with the package: where it is, and the word that stands for it.

``homnet/shipped`` holds ``checkpoint`` (a HomNet that simulated people taught, with calibrations of
four simulated hospitals and of all hospitals together), ``reader`` (its reader),
``example.arrow`` (a simulated patient) and ``README.md`` (the model card).
``jobs/records/ship_model.py`` writes all of it.
"""

from pathlib import Path
from typing import Final

from homnet.locations import Location, to_location
from homnet.model.checkpoint import HASHES

SHIPPED: Final = "shipped"
"""Name that jobs take in place of the path of a checkpoint."""
FOLDER: Final = Path(__file__).parents[1] / "shipped"
"""The folder in the package."""
EXAMPLE: Final = FOLDER / "example.arrow"
"""Pairs of a simulated patient with an abnormality, an Arrow stream."""
_CHECKPOINT: Final = "checkpoint"
_READER: Final = "reader"


def place_of(checkpoint: str | Location) -> Location:
    """Absolute location of a checkpoint, or of a folder of them; knows :data:`SHIPPED`."""
    if str(checkpoint) == SHIPPED:
        return FOLDER / _CHECKPOINT
    return to_location(checkpoint).absolute()


def reader_beside(checkpoint: str | Location) -> Location | None:
    """The reader that was stored with a calibrated checkpoint, or with a folder of them, if any."""
    root = place_of(checkpoint)
    places = [folder / _READER for folder in (root, *root.parents)[:3]]
    return next((place for place in places if (place / HASHES).is_file()), None)
