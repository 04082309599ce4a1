"""Corrections change types and numbers of homologs; images come at the common scale."""

from dataclasses import replace

import numpy as np
import pytest

from homnet.errors import DataError
from homnet.imaging.blobs import INSEPARABLE, resized
from homnet.imaging.cutting import LEFT_OUT, corrected, cut_out
from homnet.imaging.extraction import MAX_SIDE_PX
from homnet.imaging.karyogram import (
    SEPARATED,
    UM_PER_PX,
    UNLIKE_ITS_TYPE,
    FoundChromosome,
    Karyogram,
)
from homnet.imaging.layouts import LAYOUTS
from homnet.imaging.page_scale import Scale

SCALE = Scale(12.0, "chromosomes")


def found(name, homolog=0, reason="", length_px=100.0, flags=()):
    return FoundChromosome(
        box=(0, 0, 110, 30),
        outline_K2=np.zeros((3, 2)),
        chromosome=name,
        homolog=homolog,
        probability=0.97,
        flags=flags,
        reason=reason,
        length_px=length_px,
        sequence_CL=None,
        image_HW=np.full((110, 30), 90, np.uint8),
    )


@pytest.fixture
def karyogram() -> Karyogram:
    """Two of type 1, two of type 2, one uncertain, and one that crosses another."""
    chromosomes = (
        found("1", flags=(SEPARATED, UNLIKE_ITS_TYPE)),
        found("1", homolog=1),
        found("2"),
        found("2", homolog=1),
        found("", reason="its type is not certain: 2 or 3"),
        found("", reason="it crosses", length_px=0.0),
    )
    return Karyogram(chromosomes, LAYOUTS[0], SCALE)


def types(karyogram):
    return [(one.chromosome, one.homolog) for one in karyogram.chromosomes if not one.reason]


def test_without_corrections_nothing_changes(karyogram):
    assert corrected(karyogram, {}) == karyogram


def test_homologs_are_numbered_anew_in_reading_order(karyogram):
    assert types(corrected(karyogram, {1: "2"})) == [("2", 0), ("1", 0), ("2", 1), ("2", 2)]
    assert types(corrected(karyogram, {1: "", 4: "3"})) == [("1", 0), ("2", 0), ("3", 0)]


def test_what_a_person_says_is_certain(karyogram):
    fixed = corrected(karyogram, {1: "4", 2: "", 5: "2"})
    first, second, last = (fixed.chromosomes[at] for at in (0, 1, 4))
    assert (first.probability, first.flags, first.reason) == (1.0, (SEPARATED,), "")
    assert (second.chromosome, second.reason) == ("", LEFT_OUT)
    assert (last.chromosome, last.homolog, last.reason) == ("2", 2, "")
    assert [one.reason for one in fixed.left_out] == [LEFT_OUT, "it crosses"]


def test_a_scale_that_the_page_contradicts_is_refused(karyogram):
    assert len(cut_out(karyogram, 15.0)[1]) == len(cut_out(karyogram)[1]) == 4
    with pytest.raises(DataError, match="24 pixels per micrometre were given, and by its chromoso"):
        cut_out(karyogram, 24.0)


def test_two_that_touch_get_no_type():
    both = found("", reason=INSEPARABLE)
    with pytest.raises(DataError, match="number 1 can have no type: it touches or crosses"):
        corrected(Karyogram((both,), LAYOUTS[0], SCALE), {1: "3"})


@pytest.mark.parametrize(
    ("number", "name", "message"),
    [
        (0, "1", "number 0: the picture has 1 to 6"),
        (7, "", "number 7: the picture has 1 to 6"),
        (6, "1", "number 6 can have no type: it crosses"),
    ],
)
def test_corrections_that_do_not_fit(karyogram, number, name, message):
    with pytest.raises(DataError, match=message):
        corrected(karyogram, {number: name})


def test_images_come_at_the_common_scale(karyogram):
    alone = Karyogram((replace(karyogram.chromosomes[1], homolog=0),), LAYOUTS[0], SCALE)
    expected = round(110 / (UM_PER_PX * SCALE.px_per_um))
    assert cut_out(alone)[1][1].shape[0] == pytest.approx(expected, abs=1)
    same, stated = cut_out(karyogram, 0.5 / UM_PER_PX)
    assert same == karyogram
    assert sorted(stated) == [1, 2, 3, 4]
    assert stated[1].shape == (220, 60)


def test_pages_of_too_few_pixels_and_without_chromosomes(karyogram):
    with pytest.raises(DataError, match=r"too small: 0\.20 of the usual size"):
        cut_out(karyogram, 0.2 / UM_PER_PX)
    nothing = corrected(karyogram, dict.fromkeys(range(1, 5), ""))
    assert cut_out(nothing) == (nothing, {})


def test_what_is_too_large_is_left_out_before_it_is_enlarged(karyogram, monkeypatch):
    """A page of 8,000 pixels with such a scale would take 1 GB."""
    enlarged = []

    def record(image_HW, factor):
        enlarged.append(max(image_HW.shape) * factor)
        return resized(image_HW, factor)

    monkeypatch.setattr("homnet.imaging.cutting.resized", record)
    first, *others = karyogram.chromosomes
    # 300 pixels on the page, enlarged by 4.
    large = replace(first, image_HW=np.full((300, 40), 90, np.uint8))
    scale = Scale(0.25 / UM_PER_PX, "file")
    marked, images = cut_out(replace(karyogram, chromosomes=(large, *others), scale=scale))
    assert enlarged
    assert max(enlarged) <= MAX_SIDE_PX
    assert sorted(images) == [2, 3, 4]
    assert marked.chromosomes[0].reason == (
        "it is too large: 1200 pixels at the common scale, at most 1024; check the scale of the "
        "page"
    )
    # Its homolog is now the first of its type; what was left out keeps its reason.
    assert types(marked) == [("1", 0), ("2", 0), ("2", 1)]
    assert marked.chromosomes[4:] == karyogram.chromosomes[4:]


def test_a_page_of_chromosomes_that_are_all_too_large_has_none(karyogram):
    page = Karyogram(
        tuple(
            replace(one, image_HW=np.full((300, 40), 90, np.uint8)) for one in karyogram.chromosomes
        ),
        LAYOUTS[0],
        Scale(0.25 / UM_PER_PX, "file"),
    )
    marked, images = cut_out(page)
    assert images == {}
    assert marked.used == ()
