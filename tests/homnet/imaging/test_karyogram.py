"""Karyograms of simulated cells are read as they were drawn, and what is none is refused."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from homnet.errors import DataError
from homnet.imaging.extraction import extract
from homnet.imaging.karyogram import SEPARATED, find_chromosomes, read_picture
from homnet.imaging.layouts import LAYOUTS, Layout
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.simulator.cohort import simulate_person
from homnet.simulator.karyograms import (
    ChromosomeImage,
    KaryogramStyle,
    draw_karyogram,
)
from homnet.simulator.laboratory import HospitalConfig, Laboratory

# One process draws the cell, for all.
pytestmark = pytest.mark.xdist_group("karyogram")


@pytest.fixture(scope="module")
def cell(images_of_cell) -> list[ChromosomeImage]:
    """A woman's cell at a high band level, with all 46 chromosomes, none of which is very bent."""
    laboratory = replace(Laboratory(), band_levels=(0.0, 0.0, 1.0, 0.0), bend=0.2)
    hospital = HospitalConfig("h", laboratory, abnormal_fraction=0.0)
    for number in range(20):
        table = simulate_person(11, hospital, number, 1.0)
        if "Y" in table["chromosome"].to_pylist():
            continue
        cell_id = table["cell_id"][0].as_py()
        images = images_of_cell(table, cell_id, seed=4)
        if len(images) == 46:
            return images
    raise AssertionError("no such cell")


def drawn(cell, seed=0, **changes):
    return draw_karyogram(cell, replace(KaryogramStyle(), **changes), np.random.default_rng(seed))


def read(image, layout=None):
    file = BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return find_chromosomes(read_picture(file), layout)


def overlap(one, other):
    shared = [min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
    sizes = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    both = max(shared[0], 0) * max(shared[1], 0)
    return both / (sum(sizes) - both)


def compared(karyogram, truth):
    """Types that were read at the place of each chromosome; None where it was left out."""
    names = []
    for row in truth.itertuples():
        box = (row.top, row.left, row.bottom, row.right)
        best = max(karyogram.chromosomes, key=lambda one: overlap(one.box, box))
        good = overlap(best.box, box) > 0.6 and not best.reason
        names.append((best.chromosome, best.homolog) if good else None)
    return names


@pytest.mark.parametrize(
    ("layout", "labels"),
    [*((layout, "none") for layout in LAYOUTS), (LAYOUTS[0], "below"), (LAYOUTS[1], "above")],
)
def test_every_layout_is_read_with_and_without_numbers(cell, layout, labels):
    picture = drawn(cell, layout=layout, labels=labels, width_px=900)
    karyogram = read(picture.image)
    expected = list(zip(picture.truth["chromosome"], picture.truth["homolog"], strict=True))
    found = compared(karyogram, picture.truth)
    assert found.count(None) <= (0 if labels != "none" else 4)
    assert [one for one in found if one] == [
        right for right, one in zip(expected, found, strict=True) if one
    ]


@pytest.mark.parametrize("width_px", [640, 2600, pytest.param(6000, marks=pytest.mark.slow)])
def test_any_resolution_and_clutter(cell, width_px):
    clutter = ("frame", "lines", "text", "bar", "logo", "arrow", "groups")
    picture = drawn(cell, width_px=width_px, clutter=clutter, colour=True, ground=240)
    found = compared(read(picture.image), picture.truth)
    assert sum(one is not None for one in found) >= len(found) - 1
    for one, name in zip(found, picture.truth["chromosome"], strict=True):
        assert one is None or one[0] == name


def test_touching_homologs_are_separated_where_that_is_certain(cell):
    picture = drawn(cell, width_px=900, touching=1.0, overlap_px=(0.0, 1.0), clutter=())
    karyogram = read(picture.image)
    found = compared(karyogram, picture.truth)
    assert sum(one is not None for one in found) > 0.8 * len(found)
    assert all(
        one is None or one[0] == name
        for one, name in zip(found, picture.truth["chromosome"], strict=True)
    )
    assert sum(SEPARATED in one.flags for one in karyogram.used) > 0.7 * len(found)
    for one in karyogram.left_out:
        assert "separated" in one.reason or "not certain" in one.reason


def test_crossed_homologs_are_left_out_and_the_others_kept(cell):
    first, second = (one for one in cell if one.chromosome == "4")
    size = max(*first.image_HW.shape, *second.image_HW.shape) + 20
    cross = np.full((size, size), 255, np.uint8)
    for image, angle in ((first.image_HW, 25), (second.image_HW, -25)):
        turned = 255 - ndimage.rotate(255 - image, angle, reshape=True, order=1)
        top, left = ((size - side) // 2 for side in turned.shape)
        part = cross[max(top, 0) :, max(left, 0) :][: turned.shape[0], : turned.shape[1]]
        np.minimum(part, turned[: part.shape[0], : part.shape[1]], out=part)
    crossed = [one for one in cell if one.chromosome != "4"] + [ChromosomeImage("4", 0, cross)]
    karyogram = read(drawn(crossed, width_px=900).image)
    (left_out,) = (one for one in karyogram.left_out if "crosses" in one.reason)
    assert left_out.chromosome in ("", "4")
    assert "4" not in {one.chromosome for one in karyogram.used}
    assert len(karyogram.used) >= len(cell) - 3


def test_missing_and_further_copies_move_nothing(cell):
    names = [(one.chromosome, one.homolog) for one in cell]
    cell = [one for one, name in zip(cell, names, strict=True) if name != ("9", 1)]
    third = next(one for one in cell if one.chromosome == "21")
    picture = drawn([*cell, replace(third, homolog=2)], width_px=900)
    counts = {}
    for one in read(picture.image).used:
        counts.setdefault(one.chromosome, []).append(one.homolog)
    assert counts["9"] == [0]
    assert counts["21"] == [0, 1, 2]
    assert all(counts[name] == [0, 1] for name in ("8", "10", "20", "22"))


def test_a_layout_of_the_laboratorys_own(cell):
    backwards = Layout("backwards", (CHROMOSOMES[12::-1], CHROMOSOMES[:12:-1]))
    picture = drawn(cell, layout=backwards, labels="none", width_px=900)
    found = compared(read(picture.image, backwards), picture.truth)
    right = [one and one[0] for one in found]
    assert sum(map(bool, right)) >= len(right) - 3
    assert all(
        one in (None, name) for one, name in zip(right, picture.truth["chromosome"], strict=True)
    )
    with pytest.raises(DataError, match="not a"):
        read(picture.image)


def test_images_and_outlines_lie_on_the_chromosome(cell):
    picture = drawn(cell, width_px=900, ground=245)
    for one in read(picture.image).used:
        top, left, bottom, right = one.box
        rows, columns = one.outline_K2.T
        assert top - 2 <= rows.min()
        assert rows.max() <= bottom + 2
        assert left - 2 <= columns.min()
        assert columns.max() <= right + 2
        assert (one.outline_K2[0] == one.outline_K2[-1]).all()
        assert one.image_HW.max() == 245
        assert one.image_HW.min() == picture.image[top:bottom, left:right].min()
        assert one.length_px == pytest.approx(bottom - top, rel=0.35)


def test_the_scale_is_estimated_from_the_lengths(cell):
    small, large = (read(drawn(cell, width_px=width).image) for width in (1000, 2500))
    assert large.scale.source == "chromosomes"
    ratio = large.scale.px_per_um / small.scale.px_per_um
    assert ratio == pytest.approx(2.5, rel=0.03)
    assert {large.band_level, small.band_level} == {550}


@pytest.mark.parametrize(
    ("clutter", "dots_per_inch", "source"),
    [
        (("bar", "lines", "text"), 0, "scale bar"),
        ((), 25_400, "file"),
        ((), 300, "chromosomes"),
    ],
)
def test_the_scale_is_that_of_a_bar_or_of_the_file(cell, clutter, dots_per_inch, source):
    picture = drawn(cell, width_px=1000, clutter=clutter)
    file = BytesIO()
    dots = dots_per_inch * picture.px_per_um if dots_per_inch > 300 else dots_per_inch
    Image.fromarray(picture.image).save(file, format="PNG", dpi=(dots, dots) if dots else None)
    found = find_chromosomes(read_picture(file))
    assert found.scale.source == source
    exact = 0.25 if source == "chromosomes" else 0.01
    assert found.scale.px_per_um == pytest.approx(picture.px_per_um, rel=exact)


def scattered(cell, seed=1):
    """A metaphase: the chromosomes in any direction and any place."""
    draw = np.random.default_rng(seed)
    page = np.full((1000, 1000), 245, np.uint8)
    for one in cell:
        turned = 255 - ndimage.rotate(255 - one.image_HW, draw.uniform(0, 360), order=1)
        top, left = (int(draw.uniform(60, 940 - side)) for side in turned.shape)
        part = page[top : top + turned.shape[0], left : left + turned.shape[1]]
        np.minimum(part, turned, out=part)
    return page


def mouse(cell):
    """Forty short-armed chromosomes, numbered to 19."""
    names = [*CHROMOSOMES[:19], "X", "Y"]
    acrocentric = [one for one in cell if one.chromosome in ("13", "14", "15", "21", "22")]
    images = []
    for number, name in enumerate(names):
        for homolog in range(2):
            one = acrocentric[(5 * number + 3 * homolog) % len(acrocentric)].image_HW
            sized = Image.fromarray(one).resize((one.shape[1], 92 - 3 * number))
            images.append(ChromosomeImage(name, homolog, np.asarray(sized)))
    layout = Layout("mouse", (names[:6], names[6:12], names[12:18], names[18:]))
    return drawn(images, layout=layout, width_px=1000).image


def test_what_is_no_karyogram_is_refused_in_a_sentence(cell):
    draw = np.random.default_rng(0)
    graph = np.full((600, 900), 255, np.uint8)
    graph[20:580, 50:53] = graph[577:580, 50:880] = 0
    graph[(300 + 200 * np.sin(np.arange(820) / 60)).astype(int), 50 + np.arange(820)] = 0
    photograph = np.clip(
        ndimage.gaussian_filter(draw.normal(0, 1, (500, 700)), 20) * 2000 + 120, 0, 255
    ).astype(np.uint8)
    for page, message in (
        (np.full((500, 700), 250, np.uint8), "the page is blank"),
        (255 - drawn(cell, width_px=900).image, "dark on white"),
        (photograph, "ground|dark on white"),
        (graph, "looks like a chromosome|not a karyogram"),
        (scattered(cell), "not a karyogram"),
        (mouse(cell), "not a human karyogram|not a karyogram"),
    ):
        with pytest.raises(DataError, match=message):
            read(page)


def test_homologs_are_numbered_among_those_that_are_used(cell, monkeypatch):
    picture = drawn(cell, width_px=900)
    left_out = []

    def extract_but_one(image, config):
        done = extract(image, config)
        if len(left_out) < 3:  # the first chromosomes on the page, of types 1 and 2
            left_out.append(done)
            return done.unusable("cannot be measured")
        return done

    monkeypatch.setattr("homnet.imaging.blobs.extract", extract_but_one)
    karyogram = read(picture.image)
    assert [one.reason for one in karyogram.left_out] == ["cannot be measured"] * 3
    used = [(one.chromosome, one.homolog) for one in karyogram.used]
    assert ("1", 0) not in used
    assert [number for name, number in used if name == "2"] == [0]
    assert [number for name, number in used if name == "3"] == [0, 1]


def test_a_page_that_no_step_expects_is_refused(cell, monkeypatch):
    monkeypatch.setattr("homnet.imaging.karyogram.find_parts", lambda page: 1 / 0)
    with pytest.raises(DataError, match=r"the page cannot be read \(ZeroDivisionError\)"):
        read(drawn(cell, width_px=640).image)
