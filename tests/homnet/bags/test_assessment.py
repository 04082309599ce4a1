"""Assessment: every pair is in one bag or said to be left out, whatever the order of rows."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from homnet.bags.assessment import FlatBags, PatientType, assess
from homnet.cohorts.checks import check_measured
from homnet.cohorts.pairs import MEASURED, pair_table, pairs_of
from homnet.errors import CohortError

TableOf = Callable[..., pa.Table]


def _measured(table: pa.Table) -> pa.Table:
    return table.select(MEASURED.names)


def _without_partner(table: pa.Table, rows: list[int]) -> pa.Table:
    """The same pairs, some of them without their second homolog."""
    pair = pairs_of(table).copy()
    pair[rows, 1] = 0
    columns = {n: table[n].to_pylist() for n in MEASURED.names if n != "pair"}
    return pair_table(**columns, pair=pair, abnormal=[False] * len(pair))


def test_a_type_is_one_bag_of_all_its_cells(table_of: TableOf) -> None:
    found = assess(_measured(table_of(num_patients=2, num_cells=4)))
    assert len(found.bags) == len(found.types) == 2 * 22
    assert found.bags.size_B.tolist() == [4] * 44
    assert found.types[:2] == (PatientType("h1", "h1-p0", "1"), PatientType("h1", "h1-p0", "2"))
    assert found.cell_N[:4] == ("c0", "c1", "c2", "c3")
    assert [left.chromosome for left in found.left_out["h1", "h1-p1"]] == ["X", "Y"]
    assert {left.reason for left in found.left_out["h1", "h1-p1"]} == {"no_pair"}


@pytest.mark.parametrize(
    ("num_cells", "sizes"), [(1, [1]), (10, [10]), (11, [6, 5]), (23, [8, 8, 7]), (30, [10] * 3)]
)
def test_many_cells_are_divided_evenly(table_of: TableOf, num_cells: int, sizes: list[int]) -> None:
    table = _measured(table_of(num_patients=1, num_cells=num_cells, chromosomes=("7",)))
    found = assess(table, max_cells=10)
    assert found.bags.size_B.tolist() == sizes
    assert found.type_B.tolist() == [0] * len(sizes)
    logit_B = np.arange(1.0, len(sizes) + 1)
    expected = float(np.average(logit_B, weights=sizes))
    assert found.of_types(logit_B).tolist() == pytest.approx([expected])


def test_the_order_of_rows_changes_nothing(table_of: TableOf) -> None:
    table = _measured(
        pa.concat_tables([table_of("h2", num_patients=2, num_cells=3), table_of("h1", seed=1)])
    )
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    one, other = assess(table), assess(shuffled)
    assert one.types == other.types
    assert one.cell_N == other.cell_N
    np.testing.assert_array_equal(one.bags.pair_NPCL, other.bags.pair_NPCL)
    np.testing.assert_array_equal(one.bags.level_N, other.bags.level_N)
    np.testing.assert_array_equal(one.bags.pair_NPCL, pairs_of(table)[one.row_N])


def test_what_has_no_partner_is_left_out(table_of: TableOf) -> None:
    table = table_of(num_patients=1, num_cells=2, chromosomes=("1", "2", "X"))
    found = assess(_measured(_without_partner(table, [1, 4, 5])))
    assert [kind.chromosome for kind in found.types] == ["1", "2"]
    assert found.bags.size_B.tolist() == [1, 2]
    single = [n for n in found.left_out["h1", "h1-p0"] if n.reason == "single_homolog"]
    assert [(n.chromosome, n.cells) for n in single] == [("1", ("c1",)), ("X", ("c0", "c1"))]


def test_a_patient_with_nothing_to_assess_is_still_accounted_for(table_of: TableOf) -> None:
    table = table_of(num_patients=1, num_cells=1, chromosomes=("X",))
    found = assess(_measured(_without_partner(table, [0])))
    assert len(found.bags) == 0
    assert found.types == ()
    assert len(found.left_out["h1", "h1-p0"]) == 24
    assert found.of_types(np.zeros(0)).shape == (0,)


def test_flat_bags_are_cut_and_joined(table_of: TableOf) -> None:
    bags = assess(_measured(table_of(num_patients=1, num_cells=3))).bags
    parts = [bags.part(0, 5), bags.part(5, 6), bags.part(6, len(bags))]
    again = FlatBags.concatenate(parts)
    np.testing.assert_array_equal(again.pair_NPCL, bags.pair_NPCL)
    np.testing.assert_array_equal(again.size_B, bags.size_B)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("chromosome", "23", "row 3: 'chromosome' is '23'"),
        ("band_level", 850, "row 3: 'band_level' is 850"),
        ("cell_id", "c2", "row 3: a second pair of chromosome 1"),
        ("hospital", None, "row 3: 'hospital' is empty"),
    ],
)
def test_pairs_without_truth_are_checked(
    table_of: TableOf, column: str, value: object, said: str
) -> None:
    table = _measured(table_of(num_patients=1))
    check_measured(table, "body")
    values = table[column].to_pylist()
    values[3] = value
    index = MEASURED.names.index(column)
    wrong = table.set_column(index, column, pa.array(values, MEASURED.field(column).type))
    with pytest.raises(CohortError, match=r"^body: ") as error:
        check_measured(wrong, "body")
    assert said in str(error.value)
    with pytest.raises(CohortError, match=r"patients\[0\].pairs\[3\]"):
        check_measured(wrong, "body", "patients[0].pairs[{}]".format)
