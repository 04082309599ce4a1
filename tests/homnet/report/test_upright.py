"""Chromosomes that lie upside down are turned, and the waist is found."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from homnet.cohorts.pairs import pairs_of
from homnet.karyotype.bands import band_table
from homnet.report.upright import stand_up, typical_profile


def test_who_lies_upside_down_among_the_others_is_turned(table: pa.Table) -> None:
    """Whichever of the homologs is turned, and its waist comes near where it is."""
    of_type: dict[str, list[NDArray[np.uint8]]] = {}
    for name, pair_PCL in zip(table["chromosome"].to_pylist(), pairs_of(table), strict=True):
        of_type.setdefault(name, []).extend(one for one in pair_PCL if one.any())
    turned, found, errors = [], [], []
    for name, sequences in of_type.items():
        usual_F = typical_profile(sequences)
        if usual_F is None:
            continue
        bands = band_table(400)[name]
        for number, sequence_CL in enumerate(sequences):
            length = int(np.flatnonzero(sequence_CL.any(axis=0))[-1]) + 1
            up = stand_up(sequence_CL, name, usual_F)
            turned.append(up.flipped)
            errors.append(abs(up.centromere / length - bands.centromere_iscn / bands.length_iscn))
            if number == 0:
                other_CL = np.zeros_like(sequence_CL)
                other_CL[:, :length] = sequence_CL[::-1, length - 1 :: -1]
                down = stand_up(other_CL, name, typical_profile([other_CL, *sequences[1:]]))
                found.append(up.flipped != down.flipped)
    # The simulator puts 2 % upside down; a margin keeps those that fit either way as they are.
    assert np.mean(turned) < 0.08
    assert np.mean(found) > 0.5
    assert np.median(errors) < 0.03


def test_few_homologs_are_drawn_as_they_are(table: pa.Table) -> None:
    sequence_CL = pairs_of(table)[0, 0]
    assert typical_profile([sequence_CL] * 3) is None
    assert not stand_up(sequence_CL, "1", None).flipped
