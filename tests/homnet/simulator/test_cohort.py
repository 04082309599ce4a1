from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from homnet.chromosomes import CHROMOSOME_INDEX
from homnet.pairs import SINGLE_HOMOLOG, check_table, pairs_of
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import healthy, hospitals

HOSPITAL = hospitals()[1]


def flags(table):
    return [row["flags"] for row in table["quality"].to_pylist()]


def people(hospital, number, mean_cells=4.0, seed=0):
    return [simulate_person(seed, hospital, i, mean_cells) for i in range(number)]


def test_rows_follow_the_cohort_format():
    for table in people(HOSPITAL, 3):
        check_table(table, "simulated")
        order = [CHROMOSOME_INDEX[name] for name in table["chromosome"].to_pylist()]
        assert order == sorted(order)
        assert len(set(table["patient_id"].to_pylist())) == 1


def test_a_person_depends_on_seed_hospital_and_number_only():
    one = simulate_person(5, HOSPITAL, 2, 3.0)
    simulate_person(5, HOSPITAL, 1, 3.0)
    assert simulate_person(5, HOSPITAL, 2, 3.0).equals(one)
    others = (
        simulate_person(6, HOSPITAL, 2, 3.0),
        simulate_person(5, HOSPITAL, 3, 3.0),
        simulate_person(5, hospitals()[2], 2, 3.0),
    )
    ids = {table["patient_id"][0].as_py() for table in (one, *others)}
    assert len(ids) == 4


def test_pseudonyms_say_nothing_of_the_hospital_or_the_label():
    for table in people(HOSPITAL, 4):
        text = table["cell_id"][0].as_py()
        assert HOSPITAL.name not in text
        assert not any(kind in text for kind in HOSPITAL.kinds)


def test_all_rows_of_a_cell_have_one_band_level():
    table = simulate_person(0, HOSPITAL, 0, 9.0)
    levels = {}
    for cell, level in zip(
        table["cell_id"].to_pylist(), table["band_level"].to_pylist(), strict=True
    ):
        levels.setdefault(cell, set()).add(level)
    assert len(levels) > 1
    assert all(len(found) == 1 for found in levels.values())
    assert len({level for found in levels.values() for level in found}) > 1


def test_single_homologs_stand_in_slot_0_and_are_flagged():
    table = pa.concat_tables(people(healthy(), 8))
    second = pairs_of(table)[:, 1].any(axis=(1, 2))
    assert [SINGLE_HOMOLOG in found for found in flags(table)] == (~second).tolist()
    single = {
        name for name, has in zip(table["chromosome"].to_pylist(), second, strict=True) if not has
    }
    assert {"X", "Y"} <= single
    y_rows = np.array(table["chromosome"].to_pylist()) == "Y"
    assert not second[y_rows].any()


def test_healthy_people_are_all_normal():
    table = pa.concat_tables(people(healthy(), 5))
    assert not any(table["abnormal"].to_pylist())
    assert table["kind"].null_count == table["start"].null_count == table.num_rows


def test_share_of_abnormal_people_is_kept_in_small_hospitals():
    for fraction, number, expected in ((0.6, 20, 12), (0.25, 16, 4), (1.0, 7, 7)):
        hospital = replace(HOSPITAL, abnormal_fraction=fraction)
        carriers = sum(any(t["abnormal"].to_pylist()) for t in people(hospital, number))
        assert abs(carriers - expected) <= 1


@pytest.mark.parametrize("kind", ["deletion", "translocation", "robertsonian", "inversion"])
def test_abnormal_rows_carry_the_truth(kind):
    hospital = replace(HOSPITAL, kinds={kind: 1.0}, abnormal_fraction=1.0)
    for table in people(hospital, 4, mean_cells=6.0):
        abnormal = table.filter(table["abnormal"])
        types = set(abnormal["chromosome"].to_pylist())
        assert len(types) == (2 if kind == "translocation" else 1)
        assert set(abnormal["kind"].to_pylist()) == {kind}
        normal = table.filter(pa.compute.invert(table["abnormal"]))
        assert normal["kind"].null_count == normal["homolog"].null_count == normal.num_rows
        pairs = pairs_of(abnormal)
        for row, (slot, start, stop) in enumerate(
            zip(*(abnormal[name].to_pylist() for name in ("homolog", "start", "stop")), strict=True)
        ):
            assert pairs[row, slot].any()
            assert 0 <= start < stop <= np.count_nonzero(pairs[row, slot, 0])


def test_robertsonian_partner_keeps_one_homolog_and_counts_as_normal():
    hospital = replace(
        HOSPITAL,
        laboratory=replace(HOSPITAL.laboratory, missing_rate=0.0),
        kinds={"robertsonian": 1.0},
        abnormal_fraction=1.0,
    )
    for table in people(hospital, 4):
        rows = zip(
            table["chromosome"].to_pylist(),
            flags(table),
            table["abnormal"].to_pylist(),
            strict=True,
        )
        single = {(name, label) for name, found, label in rows if SINGLE_HOMOLOG in found}
        partners = {name for name, _ in single} - {"X", "Y"}
        assert len(partners) == 1
        assert not any(label for _, label in single)


def test_the_slot_of_the_abnormal_homolog_tells_nothing():
    hospital = replace(HOSPITAL, kinds={"deletion": 1.0}, abnormal_fraction=1.0)
    every = []
    for table in people(hospital, 8, mean_cells=40.0):
        slots = [
            slot
            for slot, found in zip(table["homolog"].to_pylist(), flags(table), strict=True)
            if slot is not None and SINGLE_HOMOLOG not in found
        ]
        # Drawn anew in every cell: neither slot may hold a patient's derivative throughout.
        assert 0.2 < np.mean(slots) < 0.8
        every += slots
    # Four standard errors of a fair coin.
    assert np.mean(every) == pytest.approx(0.5, abs=2 / np.sqrt(len(every)))


def test_no_pair_is_lost_when_nothing_is_missing():
    hospital = replace(healthy(), laboratory=replace(HOSPITAL.laboratory, missing_rate=0.0))
    for table in people(hospital, 6, mean_cells=5.0):
        types = set(table["chromosome"].to_pylist())
        num_cells = len(set(table["cell_id"].to_pylist()))
        assert len(types) in {23, 24}
        assert table.num_rows == num_cells * len(types)


def test_length_alone_does_not_give_the_abnormal_pairs_away():
    from sklearn.metrics import roc_auc_score

    scores, labels = [], []
    for hospital in hospitals():
        table = pa.concat_tables(people(hospital, 30, mean_cells=5.0))
        length = np.count_nonzero(pairs_of(table)[:, :, 0], axis=-1)
        both = length[:, 1] > 0
        scores.append(np.abs(np.log(length[both, 0] / length[both, 1])))
        labels.append(np.array(table["abnormal"].to_pylist())[both])
    auc = roc_auc_score(np.concatenate(labels), np.concatenate(scores))
    assert 0.55 < auc < 0.78


def test_homologs_resemble_each_other_as_real_ones_do():
    """Bounds around the quartiles of real sets: .59 to .91, after linear stretching only."""
    table = pa.concat_tables(people(hospitals()[0], 12, mean_cells=2.0))
    correlations = []
    for first, second in pairs_of(table).mean(axis=2):
        lengths = np.count_nonzero(first), np.count_nonzero(second)
        if min(lengths) > 0:
            ends = [
                np.interp(np.linspace(0, n - 1, 100), np.arange(n), sequence[:n])
                for sequence, n in zip((first, second), lengths, strict=True)
            ]
            correlations.append(np.corrcoef(*ends)[0, 1])
    assert 0.6 < np.median(correlations) < 0.85
