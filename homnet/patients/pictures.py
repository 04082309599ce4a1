"""What became of the pictures of a patient, for its verdict and report."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from homnet.imaging.pairing import SURPLUS
from homnet.patients.verdict import PatientVerdict

NOTHING_USED: Final = "all its chromosomes are left out"
"""Why a karyogram that was read could not be used."""
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


def sent_image(row: int, chromosome: str, cell_id: str, reason: str, note: str) -> SentPicture:
    """The image of one chromosome.

    Args:
        row: its row in the manifest.
        chromosome: its type.
        cell_id: its cell.
        reason: why it has no sequence; empty if it has one.
        note: what is odd about it.
    """
    name = f"row {row}, chromosome {chromosome}"
    if reason and reason != SURPLUS:
        return SentPicture(name, cell_id, reason)
    return SentPicture(name, cell_id, remarks=tuple(filter(None, (reason, without_names(note)))))


def without_names(note: str) -> str:
    """A note without the names of pictures: the other one may be of another patient."""
    same = r".* has the same pixels as .*?(?=; its cell|$)"
    return re.sub(same, "it has the same pixels as another picture", note)


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
    was = f"read as chromosome {before}" if before else "left out"
    done = f"named it chromosome {chromosome}" if chromosome else "left it out"
    return f"number {number} was {was}; a person {done}"


def with_pictures(verdict: PatientVerdict, pictures: Sequence[SentPicture]) -> PatientVerdict:
    """The verdict with a note on the pictures that were refused, if there are any."""
    refused = [one for one in pictures if one.refused]
    if not refused:
        return verdict
    named = [f"{one.name} ({one.refused})" for one in refused[:_MAX_NAMED]]
    named += [f"{len(refused) - _MAX_NAMED} more"] if len(refused) > _MAX_NAMED else []
    number = "A picture" if len(refused) == 1 else f"{len(refused)} pictures"
    note = f"{number} could not be used: {'; '.join(named)}."
    return replace(verdict, notes=(*verdict.notes, note))
