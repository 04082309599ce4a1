"""Images of simulated chromosomes show what the rows say."""

import numpy as np
import pyarrow as pa
import pytest

from homnet.cohorts.pairs import pairs_of
from homnet.imaging.extraction import ExtractionConfig, extract
from homnet.simulator.images import CellLook, cell_look, draw_pair, image_rows

LOOK = CellLook(half_width_px=8.0, gap_share=0.3)


def pair(lengths=(240, 250)) -> np.ndarray:
    """A pair with bands of its own on each chromatid of each homolog."""
    pair_PCL = np.zeros((2, 2, 512), np.uint8)
    for homolog, length in enumerate(lengths):
        place = np.arange(length)
        for chromatid in range(2):
            wave = np.sin(place / (9 + homolog) + chromatid)
            pair_PCL[homolog, chromatid, :length] = 120 + 60 * wave
    return pair_PCL


def drawn(pair_PCL, straightness=0.97, seed=0):
    return draw_pair(
        pair_PCL,
        "7",
        straightness,
        LOOK,
        samples_per_px=3.0,
        draw=np.random.default_rng(seed),
    )


def test_images_say_what_the_rows_say():
    pair_PCL = pair()
    for seed in range(5):
        for sequence_CL, image in zip(pair_PCL, drawn(pair_PCL, seed=seed), strict=True):
            assert image.dtype == np.uint8
            assert image[0].min() > 240
            read_CL = extract(image, ExtractionConfig()).sequence_CL
            length = int((sequence_CL[0] > 0).sum())
            assert int((read_CL[0] > 0).sum()) == pytest.approx(length, abs=9)
            both = min(length, int((read_CL[0] > 0).sum()))
            for chromatid in range(2):
                a, b = sequence_CL[chromatid, :both], read_CL[chromatid, :both]
                assert np.corrcoef(a, b)[0, 1] > 0.9
                assert b.mean() == pytest.approx(a.mean(), rel=0.08)


@pytest.mark.parametrize("straightness", [0.999, 0.93, 0.8])
def test_the_more_bent_homolog_is_as_straight_as_the_row_says(straightness):
    for seed in range(5):
        found = [
            extract(image, ExtractionConfig()).straightness
            for image in drawn(pair(), straightness, seed)
        ]
        assert min(found) == pytest.approx(straightness, abs=0.03)


def test_a_single_homolog_has_one_image_and_the_bend_of_the_row():
    first, second = drawn(pair((240, 0)), straightness=0.8)
    assert second is None
    assert extract(first, ExtractionConfig()).straightness == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("length", [12, 24])
def test_the_shortest_chromosome_can_be_drawn(length):
    assert all(image.min() < 200 for image in drawn(pair((length, length)), 0.9))


def test_a_cell_has_one_look_and_cells_differ():
    assert cell_look(1, "h", "c1") == cell_look(1, "h", "c1") != cell_look(1, "h", "c2")


def test_rows_of_the_manifest(table_of):
    table = table_of("h1", num_patients=1, num_cells=1, chromosomes=("5", "X"), abnormal="5")
    pair_NPCL = pairs_of(table).copy()
    pair_NPCL[1, 1] = 0
    column = table.schema.get_field_index("pair")
    flat = pa.array([one.tobytes() for one in pair_NPCL], table.schema.field("pair").type)
    rows = image_rows(table.set_column(column, table.schema.field("pair"), flat))
    assert rows["path"].tolist() == [
        "h1/h1-p0/c0/5_0.png",
        "h1/h1-p0/c0/5_1.png",
        "h1/h1-p0/c0/X_0.png",
    ]
    assert rows["abnormal"].tolist() == [0, 1, 0]
    assert rows["kind"].tolist() == ["", "deletion", ""]
    assert rows["pair"].tolist() == [0, 0, 1]
