"""Places: order, gaps, rows, numbers and bands decide together, and doubt stays doubt."""

from dataclasses import replace

import numpy as np
import pytest

from homnet.imaging.layouts import LAYOUTS, Layout
from homnet.imaging.places import BlobEvidence, Reading, find_places
from homnet.karyotype.chromosomes import CHROMOSOMES

NUM = len(CHROMOSOMES)


def evidence(name, strength=2.0):
    """Bands or a number that speak for a type."""
    log_T = np.full(NUM, -strength)
    log_T[CHROMOSOMES.index(name)] = strength
    return log_T


def page(rows, strength=2.0):
    """Blobs of rows of (type, number of chromosomes)."""
    return [
        BlobEvidence(
            new_row=at == 0 and copy == 0,
            log_gap=3.0 if copy == 0 else -3.0,
            readings=(Reading(0.0, evidence(name, strength)[None]),),
        )
        for row in rows
        for at, (name, count) in enumerate(row)
        for copy in range(count)
    ]


def named(places):
    """The most probable type of each blob's first reading, None below .95."""
    found = []
    for probability_NT, *_ in places.probability:
        best = int(probability_NT[0].argmax())
        found.append(CHROMOSOMES[best] if probability_NT[0, best] > 0.95 else None)
    return found


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_whole_cell(layout):
    rows = [[(name, 2 - (name in "XY")) for name in row] for row in layout.rows]
    places = find_places(page(rows))
    expected = [name for row in rows for name, count in row for _ in range(count)]
    assert named(places) == expected
    assert places.layout.order == layout.order
    for probability, reading in zip(places.probability, places.reading, strict=True):
        assert probability[0].sum() <= 1 + 1e-9
        assert reading == pytest.approx((1.0,))


def test_a_lost_homolog_and_a_third_copy():
    rows = [[(name, 2) for name in row] for row in LAYOUTS[0].rows]
    rows[1][2], rows[3][2] = ("8", 1), ("21", 3)
    rows[3][4:] = [("X", 2)]
    expected = [name for row in rows for name, count in row for _ in range(count)]
    assert named(find_places(page(rows))) == expected


def test_what_the_evidence_does_not_tell_apart_is_uncertain():
    blobs = page([[(name, 2) for name in LAYOUTS[0].rows[1]]], strength=0.0)
    blobs = [*blobs[:4], *blobs[6:]]  # one place is empty, nobody knows which
    found = find_places(blobs)
    assert None in named(found)


def test_one_number_overrules_one_wrong_opinion():
    rows = [[(name, 2) for name in row] for row in LAYOUTS[0].rows]
    rows[3][4:] = [("X", 2)]
    blobs = page(rows)
    wrong = replace(blobs[20], readings=(Reading(0.0, evidence("12", 3.0)[None]),))
    found = named(find_places([*blobs[:20], wrong, *blobs[21:]]))
    assert found[20] in ("11", None)
    assert (
        found[:20] + found[21:] == named(find_places(blobs))[:20] + named(find_places(blobs))[21:]
    )


def test_clutter_at_the_beginning_of_a_row_is_no_chromosome():
    rows = [[(name, 2) for name in row] for row in LAYOUTS[0].rows]
    rows[3][4:] = [("X", 2)]
    blobs = page(rows)
    clutter = BlobEvidence(True, 0.0, (Reading(0.0, np.full((1, NUM), -8.0)),))
    first = next(at for at, blob in enumerate(blobs) if at and blob.new_row)
    with_it = [*blobs[:first], clutter, replace(blobs[first], new_row=False), *blobs[first + 1 :]]
    found = find_places(with_it)
    assert found.probability[first][0].sum() < 0.05
    assert [*named(found)[:first], *named(found)[first + 1 :]] == named(find_places(blobs))


def test_a_blob_is_read_as_two_where_two_are_missing():
    rows = [[(name, 2) for name in row] for row in LAYOUTS[0].rows]
    rows[3][4:] = [("X", 2)]
    blobs = page(rows)
    both = Reading(0.0, np.stack([evidence("7")] * 2))
    joined = BlobEvidence(False, 3.0, (Reading(0.0, np.zeros((1, NUM))), both))
    at = 12
    found = find_places([*blobs[:at], joined, *blobs[at + 2 :]])
    assert found.reading[at][1] > 0.95
    assert found.probability[at][1][:, CHROMOSOMES.index("7")].min() > 0.95
    # Beside its partner it is one: three of a type are rarer than a seam is deceptive.
    unlikely = replace(both, log_weight=-2.0)
    single = BlobEvidence(False, 3.0, (Reading(0.0, evidence("7")[None]), unlikely))
    found = find_places([*blobs[:at], single, *blobs[at + 1 :]])
    assert found.reading[at][0] > 0.9


def test_a_layout_that_is_given_is_the_only_one():
    layout = Layout("mine", (("2", "1"), ("X",)))
    blobs = page([[("2", 2), ("1", 2)], [("X", 2)]])
    assert named(find_places(blobs, layout)) == ["2", "2", "1", "1", "X", "X"]
    # Its rows end where it says.
    found = find_places(page([[("2", 2)], [("1", 2), ("X", 2)]]), layout)
    assert named(found) != ["2", "2", "1", "1", "X", "X"]
