import io

import numpy as np
import pytest

from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.realism.figures import draw_chromosomes, draw_recall, draw_scorecard
from homnet.realism.scorecard import Row
from homnet.simulator.laboratory import Laboratory

SIMULATED = [Row("length", 11.0, (9.0, 13.0)), Row("sd", 1.3), Row("share", 0.5)]
REAL = [Row("length", 10.0, (8.0, 12.0)), Row("sd", 1.0), Row("share", float("nan"))]


def test_the_same_types_stand_on_both_sides(pairs_of_laboratory):
    sides = [pairs_of_laboratory(seed, Laboratory()) for seed in (1, 2)]
    figure = draw_chromosomes(*sides, np.random.default_rng(0))
    names = [
        [text.get_text() for axes in half.axes for text in axes.texts] for half in figure.subfigs
    ]
    assert names[0] == names[1]
    assert len(names[0]) == 50
    assert set(names[0]) == set(CHROMOSOMES) - {"Y"}
    shown = [image.get_array() for half in figure.subfigs for a in half.axes for image in a.images]
    assert len({image.tobytes() for image in shown}) == 100
    figure.savefig(io.BytesIO())


def test_the_scorecard_shows_what_lies_outside():
    axes = draw_scorecard(SIMULATED, REAL).axes[0]
    drawn = {int(line.get_ydata()[0]): line.get_xdata()[0] for line in axes.lines[1:]}
    # Half of the upper quartile's distance; twice the tolerance; what is undefined is not drawn.
    assert drawn == {0: pytest.approx(0.5), 1: pytest.approx(2.0)}


def test_recall_is_drawn_for_each_kind():
    one = {"median_mb": 15.0, "recall": 0.2, "expected": 0.3, "num_pairs": 7}
    figure = draw_recall({"deletion": [one], "duplication": []})
    lines = [line.get_ydata().tolist() for axes in figure.axes for line in axes.lines]
    assert lines == [[0.3], [0.2], [], []]
