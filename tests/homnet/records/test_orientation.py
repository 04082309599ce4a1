"""One homolog of each bag is turned, and what is found is compared with that."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from homnet.bags.draw import BagConfig, PairBank, draw_bags
from homnet.records.orientation import by_type, orientation_markdown


def test_shares_are_shares(table_of: Callable[..., pa.Table]) -> None:
    bank = PairBank.from_table(table_of("h1", num_patients=4, chromosomes=("1", "9")))
    bags = draw_bags(bank, BagConfig(num_cells=3, over="people"), seed=0)
    before_NPCL = bank.pair_NPCL.copy()
    found = by_type(bank, bags, np.ones((len(bank.frame), 2)), seed=0)
    np.testing.assert_array_equal(bank.pair_NPCL, before_NPCL)
    assert list(found) == ["1", "9", "all"]
    full = bags.mask_BK.all(axis=1).sum()
    assert (found["all"]["num_turned"], found["all"]["num_chromosomes"]) == (full, 6 * full)
    assert all(0 <= one["right_of_decided"] <= 1 for one in found.values())
    table = orientation_markdown({"by_type": found})
    assert "| Type | Decided | Right | Right where it is clear | Stored upside down |" in table
