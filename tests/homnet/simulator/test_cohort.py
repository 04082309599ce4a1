from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from homnet.cohorts.checks import check_table
from homnet.cohorts.pairs import SINGLE_HOMOLOG, pairs_of
from homnet.karyotype.chromosomes import ACROCENTRICS, CHROMOSOME_INDEX
from homnet.karyotype.kinds import SIMULATED
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import HospitalConfig, Laboratory, healthy, hospitals

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


def only(kind, **changes):
    """A hospital all of whose patients have an abnormality of one kind in all cells."""
    return replace(
        HOSPITAL, **{"kinds": {kind: 1.0}, "abnormal_fraction": 1.0, "mosaic_share": 0.0, **changes}
    )


@pytest.mark.parametrize("kind", SIMULATED)
def test_abnormal_rows_carry_the_truth(kind):
    for table in people(only(kind), 4, mean_cells=6.0):
        abnormal = table.filter(table["abnormal"])
        types = set(abnormal["chromosome"].to_pylist())
        broken = {place["chromosome"] for place in abnormal["breakpoints"][0].as_py()}
        assert types <= broken
        if kind not in {"insertion", "addition", "robertsonian"}:
            assert types == broken
        for name in ("kind", "homolog", "start", "stop", "size_mb", "iscn", "breakpoints"):
            assert abnormal[name].null_count == 0
        assert len(set(abnormal["size_mb"].to_pylist())) == 1
        names = dict(
            zip(abnormal["band_level"].to_pylist(), abnormal["iscn"].to_pylist(), strict=True)
        )
        found = zip(
            *(abnormal[c].to_pylist() for c in ("band_level", "iscn", "breakpoints")), strict=True
        )
        for level, name, places in found:
            assert name == names[level]
            assert all(place["band"] in name or "~" in name for place in places)
        assert set(abnormal["kind"].to_pylist()) == {kind}
        normal = table.filter(pa.compute.invert(table["abnormal"]))
        for name in ("kind", "homolog", "size_mb", "iscn", "breakpoints"):
            assert normal[name].null_count == normal.num_rows
        pairs = pairs_of(abnormal)
        for row, (slot, start, stop) in enumerate(
            zip(*(abnormal[name].to_pylist() for name in ("homolog", "start", "stop")), strict=True)
        ):
            assert pairs[row, slot].any()
            assert 0 <= start < stop <= np.count_nonzero(pairs[row, slot, 0])


def test_robertsonian_partner_keeps_one_homolog_and_counts_as_normal():
    hospital = only("robertsonian", laboratory=replace(HOSPITAL.laboratory, missing_rate=0.0))
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
    hospital = only("deletion")
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


@pytest.fixture
def quiet(quiet):
    """Every chromosome looks as its bands say."""
    return replace(quiet, band_levels=(0.0, 0.0, 0.0, 1.0), contrast=100.0)


def rows_of(kind, laboratory):
    """Abnormal and normal sequence of each abnormal pair, with its truth."""
    for table in people(only(kind, laboratory=laboratory), 12, mean_cells=2.0):
        abnormal = table.filter(table["abnormal"])
        for row, pair in zip(abnormal.to_pylist(), pairs_of(abnormal)[:, :, 0], strict=True):
            changed, normal = pair[row["homolog"]], pair[1 - row["homolog"]]
            yield row, changed[changed > 0].astype(int), normal[normal > 0].astype(int)


def stretched(name):
    return name in {"1", "9", "16", *ACROCENTRICS}


def alike(one, other):
    """Whether two stretches show the same bands, but for two samples that breakpoints may miss."""
    length = min(len(one), len(other)) - 2
    if abs(len(one) - len(other)) > 2:
        return False
    differing = [
        np.mean(np.abs(one[i : i + length] - other[j : j + length]) > 2)
        for i, j in ((0, 0), (0, 1), (1, 0), (0, 2), (2, 0))
        if length > 0 and i + length <= len(one) and j + length <= len(other)
    ]
    return min(differing, default=0.0) < 0.2


def test_between_the_breakpoints_an_inversion_runs_backwards(quiet):
    seen = turned = 0
    for row, changed, normal in rows_of("inversion", quiet):
        if stretched(row["chromosome"]):
            continue
        low, high = sorted(place["position"] for place in row["breakpoints"])
        assert (row["start"], row["stop"]) == (low, high + 1)
        assert alike(changed[:low], normal[:low])
        assert alike(changed[low:high][::-1], normal[low:high])
        assert alike(changed[high:], normal[high:])
        seen += 1
        turned += not alike(changed[low:high], normal[low:high])
    # What lies symmetrically about its middle looks the same either way.
    assert seen > 5
    assert turned > seen / 2


def test_at_the_breakpoints_of_a_deletion_something_is_missing(quiet):
    seen = 0
    for row, changed, normal in rows_of("deletion", quiet):
        if stretched(row["chromosome"]):
            continue
        at = row["breakpoints"][0]["position"]
        assert {place["position"] for place in row["breakpoints"]} == {at}
        assert row["stop"] == row["start"] + 1 == at + 1
        lost = len(normal) - len(changed)
        assert lost > 0
        # The ends of a chromosome are paler, and here they lie elsewhere.
        assert alike(changed[8 : max(at - 8, 8)], normal[8 : max(at - 8, 8)])
        assert alike(changed[at + 8 : -8], normal[at + lost + 8 : -8])
        seen += 1
    assert seen > 5


def test_between_the_breakpoints_of_a_duplication_lies_the_copy(quiet):
    seen = 0
    for row, changed, normal in rows_of("duplication", quiet):
        if stretched(row["chromosome"]):
            continue
        low, high = sorted(place["position"] for place in row["breakpoints"])
        size = high - low
        assert len(changed) - len(normal) == pytest.approx(size, abs=2)
        copy, original = changed[low:high], normal[low - size : low]
        assert alike(copy, original) or alike(copy[::-1], original)
        assert alike(changed[8 : low - 2], normal[8 : low - 2])
        assert alike(changed[high + 2 : -8], normal[low + 2 : -8])
        seen += 1
    assert seen > 5


def test_a_ring_is_opened_elsewhere_in_every_cell(quiet):
    for table in people(only("ring", laboratory=quiet), 3, mean_cells=9.0):
        abnormal = table.filter(table["abnormal"])
        places = [
            {place["position"] for place in row} for row in abnormal["breakpoints"].to_pylist()
        ]
        assert all(len(found) == 1 for found in places)
        assert len(set.union(*places)) > 2


def test_in_a_mosaic_some_cells_are_normal_and_one_is_not():
    hospital = only(
        "robertsonian",
        laboratory=replace(HOSPITAL.laboratory, missing_rate=0.0),
        mosaic_share=1.0,
        clone_fraction=(0.3, 0.3),
    )
    shares = []
    for table in people(hospital, 8, mean_cells=30.0):
        cells = dict.fromkeys(table["cell_id"].to_pylist(), 0)
        carrying = set(table.filter(table["abnormal"])["cell_id"].to_pylist())
        for cell, found in zip(table["cell_id"].to_pylist(), pairs_of(table), strict=True):
            cells[cell] += int(found[:, 0].any(axis=-1).sum())
        assert {cell for cell, number in cells.items() if number == 45} == carrying
        assert {number for cell, number in cells.items() if cell not in carrying} == {46}
        shares.append(len(carrying) / len(cells))
    assert np.mean(shares) == pytest.approx(0.3, abs=0.13)
    rare = replace(hospital, clone_fraction=(1e-9, 1e-9))
    assert all(any(table["abnormal"].to_pylist()) for table in people(rare, 5))


def test_variants_are_named_and_normal():
    table = pa.concat_tables(people(healthy(), 12))
    named = table.filter(pa.compute.is_valid(table["variant"]))
    assert 0 < named.num_rows < table.num_rows / 10
    for chromosome, names in zip(
        named["chromosome"].to_pylist(), named["variant"].to_pylist(), strict=True
    ):
        assert all(name.startswith((chromosome, f"inv({chromosome})")) for name in names.split(","))


def test_less_than_four_percent_of_the_pairs_are_abnormal():
    for hospital in hospitals():
        table = pa.concat_tables(people(hospital, 25, mean_cells=3.0))
        assert 0.01 < np.mean(table["abnormal"].to_pylist()) < 0.04


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


def test_rearranged_types_alone_are_drawn_with_as_many_others():
    hospital = HospitalConfig(
        "h", Laboratory(missing_rate=0.0), abnormal_fraction=0.7, mosaic_share=0.3
    )
    for number in range(12):
        whole = simulate_person(3, hospital, number, 3.0)
        part = simulate_person(3, hospital, number, 3.0, rearranged_types=True)
        changed = {
            name
            for name, abnormal in zip(
                whole["chromosome"].to_pylist(), whole["abnormal"].to_pylist(), strict=True
            )
            if abnormal
        }
        drawn = set(part["chromosome"].to_pylist())
        assert changed <= drawn
        assert len(drawn) == max(2 * len(changed), 1)
        assert set(part["patient_id"].to_pylist()) == set(whole["patient_id"].to_pylist())
        # The same person: abnormality, cells and truth are those of the whole one.
        for name in ("kind", "size_mb"):
            assert set(part[name].drop_null().to_pylist()) == set(
                whole[name].drop_null().to_pylist()
            )
