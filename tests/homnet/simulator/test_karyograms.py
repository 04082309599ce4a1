"""A drawn karyogram shows the chromosomes that it was given, where its truth says."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from homnet.imaging.karyogram import UM_PER_PX
from homnet.imaging.layouts import LAYOUTS
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.simulator.karyograms import (
    CLUTTER,
    ChromosomeImage,
    KaryogramStyle,
    draw_karyogram,
)


def cell() -> list[ChromosomeImage]:
    """Two bars for each type, each longer and darker than those of the next type."""
    images = []
    for number, name in enumerate(CHROMOSOMES):
        for homolog in range(2):
            grey = np.full((106 - 3 * number, 22), 255, np.uint8)
            grey[3:-3, 4:18] = 60 + 4 * number
            images.append(ChromosomeImage(name, homolog, grey))
    return images


def drawn(seed=0, **changes):
    style = replace(KaryogramStyle(), **changes)
    return draw_karyogram(cell(), style, np.random.default_rng(seed))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("width_px", [700, 1900])
def test_each_chromosome_is_where_the_truth_says(layout, width_px):
    found = drawn(layout=layout, width_px=width_px, labels="none")
    assert found.image.shape[1] == width_px
    assert found.truth["chromosome"].tolist() == [one.chromosome for one in cell()]
    blobs, num = ndimage.label(found.image < 195)
    assert num == len(found.truth)
    for row in found.truth.itertuples():
        inside = blobs[row.top : row.bottom, row.left : row.right]
        assert len(np.unique(inside[inside > 0])) == 1
        middle = found.image[(row.top + row.bottom) // 2, (row.left + row.right) // 2]
        assert middle == pytest.approx(60 + 4 * CHROMOSOMES.index(row.chromosome), abs=2)


def test_a_blank_image_is_left_out():
    given = cell()
    given[0] = replace(given[0], image_HW=np.full_like(given[0].image_HW, 250))
    found = draw_karyogram(given, KaryogramStyle(labels="none"), np.random.default_rng(0))
    assert ndimage.label(found.image < 195)[1] == len(found.truth) == len(given) - 1


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_rows_have_the_order_of_the_layout(layout):
    boxes = drawn(layout=layout).truth.groupby("chromosome").agg({"left": "min", "bottom": "max"})
    for above, types in enumerate(layout.rows):
        assert boxes.loc[list(types), "left"].is_monotonic_increasing
        for below in layout.rows[above + 1 :]:
            assert boxes.loc[list(types), "bottom"].max() < boxes.loc[list(below), "bottom"].min()


def test_touching_homologs_are_one_blob_and_noted():
    found = drawn(labels="none", touching=1.0, overlap_px=(1.0, 2.0))
    assert found.truth["touching"].all()
    assert ndimage.label(found.image < 195)[1] == len(CHROMOSOMES)
    assert not drawn().truth["touching"].any()


@pytest.mark.parametrize("clutter", CLUTTER)
def test_clutter_leaves_the_chromosomes_as_they_are(clutter):
    plain, full = drawn(clutter=()), drawn(clutter=(clutter,))
    assert plain.image.shape != full.image.shape or (plain.image != full.image).any()
    for a, b in zip(plain.truth.itertuples(), full.truth.itertuples(), strict=True):
        np.testing.assert_array_equal(
            plain.image[a.top : a.bottom, a.left : a.right],
            full.image[b.top : b.bottom, b.left : b.right],
        )


def test_colour_ground_and_scale():
    found = drawn(colour=True, ground=240, clutter=("logo",))
    assert found.image.ndim == 3
    assert np.ptp(found.image, axis=-1).max() > 100
    assert found.image[0, 0].tolist() == [240, 240, 240]
    heights = found.truth["bottom"] - found.truth["top"]
    assert found.px_per_um * UM_PER_PX * 100 == pytest.approx(heights[0], abs=2)
