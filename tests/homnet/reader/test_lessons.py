"""What lessons are made of."""

import dataclasses

import numpy as np
import pytest

from homnet.bags.draw import PairBank
from homnet.errors import ConfigError
from homnet.karyotype.kinds import SHOWN
from homnet.reader.lessons import ReaderTraining, draw_lessons


def test_lessons_hide_cells_and_thin_the_normal_bags(
    bank: PairBank, training: ReaderTraining
) -> None:
    training = dataclasses.replace(training, max_normal_share=0.25)
    lessons = draw_lessons(bank, training, 0, 0)
    normal = ~lessons.epoch.label_B
    assert 0 < normal.mean() <= 0.26
    sizes = lessons.epoch.bags.mask_BK.sum(axis=1)
    assert set(sizes) == {1, 2, 3, 4}
    nothing = ~lessons.targets.abnormal_BK.any(axis=1)
    assert (lessons.targets.kind_B[nothing] == SHOWN.index("none")).all()
    assert not lessons.targets.abnormal_BK[~lessons.epoch.bags.mask_BK].any()
    again = draw_lessons(bank, training, 0, 0)
    np.testing.assert_array_equal(again.epoch.bags.row_BK, lessons.epoch.bags.row_BK)
    other = draw_lessons(bank, training, 1, 0)
    assert not np.array_equal(other.epoch.bags.row_BK, lessons.epoch.bags.row_BK)


def test_validation_bags_keep_all_their_cells(bank: PairBank, training: ReaderTraining) -> None:
    whole = draw_lessons(bank, training.for_validation(), 0, 0)
    drawn = whole.epoch.bags.mask_BK.sum(axis=1)
    hidden = draw_lessons(bank, training, 0, 0).epoch.bags.mask_BK.sum(axis=1)
    assert (drawn == 4).mean() > 0.75 > 0.4 > (hidden == 4).mean()
    optimiser = dataclasses.replace(training.optimiser, validation_rounds=2)
    twice = dataclasses.replace(training, optimiser=optimiser).for_validation()
    assert len(draw_lessons(bank, twice, 0, 0)) > 1.8 * len(whole)


def test_settings_that_cannot_be_are_refused(training: ReaderTraining) -> None:
    with pytest.raises(ConfigError, match="fewest_cells must be 1"):
        dataclasses.replace(training, fewest_cells=5)
    with pytest.raises(ConfigError, match="max_normal_share must be in"):
        dataclasses.replace(training, max_normal_share=1.0)
