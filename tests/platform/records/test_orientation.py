"""Figures on turning say what was turned, and compare the same bags before and after."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from homnet.bags.assessment import assess
from homnet.bags.draw import BagConfig, PairBank
from homnet.bags.epochs import draw_epoch
from homnet.imaging.orientation import turn
from homnet.model.network import HomNetConfig
from homnet.model.predictor import Predictor
from homnet_platform.records.orientation import (
    BagsInMemory,
    OrientationConfig,
    auc_by_kind,
    by_type,
    false_alarms,
    kinds_of,
    turned,
)

CONFIG = OrientationConfig(num_bootstrap=20)


def bags_of(table: pa.Table) -> BagsInMemory:
    bank = PairBank.from_table(table)
    setting = BagConfig(num_cells=3, over="people")
    return BagsInMemory.of(bank, draw_epoch(bank, setting, None, seed=0, epoch=0))


def test_only_the_chosen_are_turned() -> None:
    x_BKPCL = np.random.default_rng(0).integers(1, 255, (3, 4, 2, 2, 512), dtype=np.uint8)
    which_BKP = np.zeros((3, 4, 2), np.bool_)
    which_BKP[1, 2, 0] = True
    result = turned(x_BKPCL, which_BKP)
    np.testing.assert_array_equal(result[1, 2, 0], turn(x_BKPCL[1, 2, 0][None])[0])
    np.testing.assert_array_equal(result[~which_BKP], x_BKPCL[~which_BKP])


def test_shares_and_alarms_are_shares(
    table_of: Callable[..., pa.Table], small: HomNetConfig
) -> None:
    bags = bags_of(table_of("h1", num_patients=4, chromosomes=("1", "9")))
    num_rows = int(bags.row_BK.max()) + 1
    found = by_type(bags, np.ones((num_rows, 2)), seed=0)
    assert list(found) == ["1", "9", "all"]
    assert found["all"]["num_turned"] == len(bags.chromosome_B)
    assert all(0 <= one["right_of_decided"] <= 1 for one in found.values())
    predictor = Predictor(small.build(), {}, version="test")
    alarms = false_alarms(bags, predictor, CONFIG)
    assert alarms["untouched"]["before"]["value"] <= 1 / len(bags.chromosome_B)
    for trial in ("one homolog in one cell", "one pair", "one homolog in all cells"):
        assert 0 <= alarms[trial]["after"]["low"] <= alarms[trial]["after"]["high"] <= 1


def test_the_change_of_auc_is_that_of_the_same_bags() -> None:
    kind_B = np.array(["normal"] * 4 + ["deletion"] * 4, object)
    worse_B, better_B = np.array([0, 1, 2, 9, 3, 4, 5, 6.0]), np.arange(8.0)
    found = auc_by_kind(kind_B, worse_B, better_B, CONFIG)["deletion"]
    assert (found["before"], found["after"]) == (0.75, 1.0)
    assert found["gain"]["value"] == 0.25
    assert auc_by_kind(kind_B, better_B, better_B, CONFIG)["deletion"]["gain"]["high"] == 0


def test_pericentric_inversions_are_told_apart(table_of: Callable[..., pa.Table]) -> None:
    table = table_of("h1", num_patients=2, num_cells=2, chromosomes=("1", "2", "3"))
    names = {"1": "inv(1)(p13q21)", "2": "inv(2)(q14q21)", "3": None}
    chromosomes = table["chromosome"].to_pylist()
    for column, values in {
        "kind": ["inversion" if names[one] else None for one in chromosomes],
        "iscn": [names[one] for one in chromosomes],
    }.items():
        at = table.schema.get_field_index(column)
        table = table.set_column(at, table.schema.field(at), pa.array(values, pa.string()))
    found = kinds_of(table, assess(table))
    assert found.tolist() == ["pericentric inversion", "inversion", "normal"] * 2
