"""What became of the pictures of a patient, for its verdict and report."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from homnet.patients.verdict import PatientVerdict

_MAX_NAMED: Final = 3
"""Number of refused pictures that a verdict names; the report lists all."""


@dataclass(frozen=True)
class SentPicture:
    """A picture of a patient: a karyogram, or the image of one chromosome."""

    name: str
    """What it is called: its file, or its row in the manifest."""
    cell_id: str
    """Its cell."""
    refused: str = ""
    """Why nothing of it was used; empty if it was used."""
    remarks: tuple[str, ...] = ()
    """What was left out of it, corrected by a person, or odd about it."""


def image_name(row: int, chromosome: str) -> str:
    """What the image of one chromosome is called; ``row`` is that of the manifest."""
    return f"row {row}, chromosome {chromosome}"


def left_out(number: int, chromosome: str, reason: str) -> str:
    """Remark on a chromosome of a karyogram that was not used.

    Args:
        number: its number on the picture.
        chromosome: its type; empty if none is certain.
        reason: why.
    """
    called = f" (chromosome {chromosome})" if chromosome else ""
    return f"number {number}{called} is left out: {reason}"


def corrected(number: int, before: str, chromosome: str) -> str:
    """Remark on a chromosome of a karyogram whose type a person corrected.

    Args:
        number: its number on the picture.
        before: type as which it was read; empty if it was left out.
        chromosome: type that it was given; empty if it was to be left out.
    """
    was, became = (f"chromosome {name}" if name else "left out" for name in (before, chromosome))
    return f"number {number}: a person changed {was} to {became}"


def with_pictures(verdict: PatientVerdict, pictures: Sequence[SentPicture]) -> PatientVerdict:
    """The verdict with a note on the pictures that were refused, if there are any."""
    refused = [one for one in pictures if one.refused]
    if not refused:
        return verdict
    named = [f"{one.name} ({one.refused})" for one in refused[:_MAX_NAMED]]
    named += [f"{len(refused) - _MAX_NAMED} more"] if len(refused) > _MAX_NAMED else []
    number = "A picture was" if len(refused) == 1 else f"{len(refused)} pictures were"
    note = f"{number} refused, and not looked at: {', '.join(named)}."
    return replace(verdict, notes=(*verdict.notes, note))
