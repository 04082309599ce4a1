import numpy as np
import pandas as pd
import pytest

from homnet.errors import DataError
from homnet.realism.measures import Pairs, measure
from homnet.realism.two_sample import (
    TwoSampleConfig,
    pair_features,
    two_sample_test,
    without,
)
from homnet.simulator.laboratory import Laboratory

CONFIG = TwoSampleConfig(num_trees=30, num_bootstrap=60)


MEASURED: dict[int, tuple[Pairs, pd.DataFrame]] = {}
"""Features of the pairs that all tests share, which are kept alive with them."""


def features(pairs):
    if id(pairs) not in MEASURED:
        found = pair_features(pairs, measure(pairs, np.random.default_rng(0)))
        MEASURED[id(pairs)] = pairs, found
    return MEASURED[id(pairs)][1]


def told_apart(first, second, **dropped):
    return two_sample_test(
        without(features(first), **dropped),
        without(features(second), **dropped),
        first.frame["patient_id"].tolist(),
        second.frame["patient_id"].tolist(),
        CONFIG,
    )


@pytest.mark.slow
def test_one_laboratory_is_not_told_from_itself(pairs_of_laboratory):
    found = told_apart(pairs_of_laboratory(1, Laboratory()), pairs_of_laboratory(2, Laboratory()))
    assert abs(found["auc"]["value"] - 0.5) < 0.1
    assert found["auc"]["low"] < found["auc"]["value"] < found["auc"]["high"]


@pytest.mark.slow
def test_another_contrast_gives_a_laboratory_away(pairs_of_laboratory):
    usual = Laboratory()
    pale = Laboratory(
        contrast=usual.contrast / 2,
        chromatid_texture=tuple(sd / 2 for sd in usual.chromatid_texture),
    )
    found = told_apart(pairs_of_laboratory(1, Laboratory()), pairs_of_laboratory(2, pale))
    assert found["auc"]["value"] > 0.95
    assert len(found["importance"]) == 10


@pytest.mark.slow
def test_other_tips_are_seen_at_the_tips_only(pairs_of_laboratory):
    dark = Laboratory(edge=Laboratory().edge + 25)
    first, second = pairs_of_laboratory(1, Laboratory()), pairs_of_laboratory(2, dark)
    everything = told_apart(first, second)["auc"]["value"]
    rest = told_apart(first, second, profile=True, tips=True)["auc"]["value"]
    assert everything > 0.9
    assert rest < everything - 0.2


def test_features_do_not_depend_on_which_homolog_comes_first(pairs_of_laboratory):
    pairs = pairs_of_laboratory(1, Laboratory()).take(slice(0, 40))
    swapped = Pairs(pairs.frame, pairs.pair_NPCL[:, ::-1], pairs.samples_per_px)
    # Which end of which homolog is moved to fit, and whether it is turned, does depend on it.
    fitted = ["aligned_correlation", "reversed_correlation", "residual_sd"]
    one, other = (features(of).drop(columns=fitted) for of in (pairs, swapped))
    types = one.pop("chromosome"), other.pop("chromosome")
    assert types[0].equals(types[1])
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    assert not {"patient_id", "cell_id", "other_person_correlation"} & set(one)


def test_parts_are_left_out(pairs_of_laboratory):
    every = features(pairs_of_laboratory(1, Laboratory()).take(slice(0, 40)))
    assert set(every) - set(without(every, profile=True)) == {f"profile_{i:02d}" for i in range(20)}
    gone = set(every) - set(without(every, tips=True))
    assert {"tip_low", "below_tip_high", "stagger_low", "profile_00", "profile_19"} <= gone
    assert len(gone) == 10


def test_too_few_people_are_refused(pairs_of_laboratory):
    pairs = pairs_of_laboratory(1, Laboratory())
    few = pairs.take((pairs.frame["patient_id"] == pairs.frame["patient_id"][0]).to_numpy())
    with pytest.raises(DataError, match="set of 1 people is too small"):
        told_apart(few, pairs)
