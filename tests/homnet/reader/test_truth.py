"""Segments of every kind against a loop over the bases of a chromosome, and those of artificial
events against a loop over positions."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from homnet.bags.draw import BagConfig, PairBank, draw_bags
from homnet.bags.epochs import Epoch, draw_epoch
from homnet.bags.events import EventConfig, draw_events
from homnet.errors import DataError
from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.karyotype.kinds import ARTIFICIAL, SHOWN, SIMULATED
from homnet.reader.truth import KIND_CODE, SEGMENT_COLUMNS, Targets, segment_of, with_segments
from homnet.simulator import genome
from homnet.simulator.breakpoints import Breakpoint
from homnet.simulator.cohort import simulate_person
from homnet.simulator.events import Event, derive
from homnet.simulator.laboratory import HospitalConfig


def _at(chromosome: str, mb: float) -> Breakpoint:
    return Breakpoint(chromosome, band_table(FINEST_LEVEL)[chromosome].to_iscn(mb * 1e6))


EVENTS = {
    "terminal deletion p": Event("deletion", (_at("4", 20.0),)),
    "terminal deletion q": Event("deletion", (_at("4", 150.0),)),
    "interstitial deletion": Event("deletion", (_at("5", 75.0), _at("5", 120.0))),
    "duplication": Event("duplication", (_at("3", 20.0), _at("3", 60.0))),
    "inversion": Event("inversion", (_at("2", 60.0), _at("2", 130.0))),
    "translocation": Event("translocation", (_at("7", 30.0), _at("11", 100.0))),
    "addition": Event("addition", (_at("6", 140.0), _at("9", 110.0))),
    "robertsonian": Event(
        "robertsonian", (Breakpoint.of_arm("13", "q"), Breakpoint.of_arm("14", "q"))
    ),
    "isochromosome q": Event("isochromosome", (Breakpoint.of_arm("17", "q"),)),
    "isochromosome p": Event("isochromosome", (Breakpoint.of_arm("18", "p"),)),
    "ring": Event("ring", (_at("20", 6.0), _at("20", 55.0))),
}


def _rows(event: Event) -> list[dict[str, object]]:
    return [
        {"chromosome": at.chromosome, "mb": at.mb, "band": at.band(550)} for at in event.breakpoints
    ]


def _kept(event: Event, chromosome: str) -> list[int]:
    """How often each of 400 places of the reference is on the derivative, by a plain loop."""
    types = dict.fromkeys(place.chromosome for place in event.breakpoints)
    derivative = derive(event, {name: genome.reference(name) for name in types})[chromosome]
    length = band_table(FINEST_LEVEL)[chromosome].length_iscn
    counts = []
    for i in range(400):
        place = (i + 0.5) / 400 * length
        count = 0
        for segment in derivative.homolog.segments:
            if segment.chromosome == chromosome and segment.start <= place < segment.stop:
                count += -10 if segment.inverted and event.kind == "inversion" else 1
        counts.append(count)
    return counts


@pytest.mark.parametrize("name", EVENTS)
def test_a_segment_is_where_the_derivative_differs(name: str) -> None:
    event = EVENTS[name]
    chromosome = event.breakpoints[0].chromosome
    segment = segment_of(event.kind, chromosome, _rows(event))
    assert segment is not None
    table = band_table(FINEST_LEVEL)[chromosome]
    # Lost, doubled or turned around: all but once and upright. Of a ring that lies outside.
    for i, count in enumerate(_kept(event, chromosome)):
        mb = table.to_bp((i + 0.5) / 400 * table.length_iscn) / 1e6
        inside = segment.start_mb < mb < segment.stop_mb
        changed = count != 1
        if event.kind == "isochromosome":
            changed = count == 0
        assert changed == (inside != (event.kind == "ring")), (i, mb)


def test_both_derivatives_of_a_translocation_have_their_own_segment() -> None:
    event = EVENTS["translocation"]
    other = segment_of("translocation", "11", _rows(event))
    assert other is not None
    assert other.start_mb == pytest.approx(100.0)
    assert other.stop_mb == pytest.approx(band_table(FINEST_LEVEL)["11"].length_bp / 1e6)
    assert other.kind == "insertion_translocation"


def test_an_insertion_is_a_point_and_its_donor_shows_a_deletion() -> None:
    event = Event("insertion", (_at("3", 50.0), _at("8", 70.0), _at("8", 100.0)))
    target = segment_of("insertion", "3", _rows(event))
    donor = segment_of("insertion", "8", _rows(event))
    assert target is not None
    assert donor is not None
    assert (target.kind, target.start_mb) == ("insertion_translocation", target.stop_mb)
    assert (donor.kind, round(donor.start_mb), round(donor.stop_mb)) == ("deletion", 70, 100)
    within = Event("insertion", (_at("3", 50.0), _at("3", 120.0), _at("3", 160.0)))
    moved = segment_of("insertion", "3", _rows(within))
    assert moved is not None
    assert (round(moved.start_mb), round(moved.stop_mb)) == (50, 160)


def test_every_kind_of_the_simulator_has_a_segment() -> None:
    shown = set()
    for number, kind in enumerate(SIMULATED):
        hospital = HospitalConfig("h", kinds={kind: 1.0}, abnormal_fraction=1.0, recurrent_share=0)
        table = simulate_person(number, hospital, 0, 3.0, rearranged_types=True)
        table = with_segments(table)
        abnormal = table.filter(table["abnormal"])
        assert abnormal.num_rows, kind
        for name in SEGMENT_COLUMNS:
            assert abnormal[name].null_count == 0
        shown |= set(abnormal["shown_kind"].to_pylist())
    assert shown == set(SHOWN) - {"none"}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="inversion with 1 breakpoints on chromosome 2"):
        segment_of("inversion", "2", [{"chromosome": "2", "mb": 1.0, "band": "p25"}])
    assert segment_of("something", "2", [{"chromosome": "2", "mb": 1.0, "band": "p25"}]) is None
    assert segment_of("deletion", "2", [{"chromosome": "2", "mb": None, "band": "p25"}]) is None
    assert segment_of("isochromosome", "2", [{"chromosome": "2", "mb": 93.0, "band": None}]) is None


def test_targets_of_a_cohort_are_its_columns() -> None:
    hospital = HospitalConfig(
        "h", kinds={"inversion": 1.0}, abnormal_fraction=1.0, recurrent_share=0
    )
    table = with_segments(simulate_person(4, hospital, 0, 5.0, rearranged_types=True))
    bank = PairBank.from_table(table)
    epoch = draw_epoch(bank, BagConfig(num_cells=3), None, seed=0, epoch=0)
    targets = Targets.of(epoch, bank)
    for b in range(len(epoch)):
        for k in range(3):
            row = bank.frame.iloc[epoch.bags.row_BK[b, k]]
            abnormal = bool(row["abnormal"]) and bool(epoch.bags.mask_BK[b, k])
            assert targets.abnormal_BK[b, k] == abnormal
            if not abnormal:
                assert np.isnan(targets.extent_BK2[b, k]).all()
                continue
            assert SHOWN[targets.kind_B[b]] == "inversion"
            assert targets.homolog_BK[b, k] == row["homolog"]
            length = row[f"length_{int(row['homolog'])}"]
            np.testing.assert_allclose(
                targets.extent_BK2[b, k], [row["start"] / length, row["stop"] / length]
            )
            name = CHROMOSOMES[row["chromosome"]]
            length_iscn = band_table(FINEST_LEVEL)[name].length_iscn
            shares = [
                band_table(FINEST_LEVEL)[name].to_iscn(row[column] * 1e6) / length_iscn
                for column in SEGMENT_COLUMNS[1:]
            ]
            np.testing.assert_allclose(targets.segment_B2[b], shares)


def _sources(events: object, b: int, k: int, length: int) -> list[tuple[bool, int]]:
    """Where each output position reads, by a loop over positions: (donor, position)."""
    found, begin = [], 0
    for q in range(3):
        stop = int(events.stop_BKQ[b, k, q])  # type: ignore[attr-defined]
        for t in range(begin, stop):
            at = int(events.origin_BKQ[b, k, q])  # type: ignore[attr-defined]
            at += int(events.step_BKQ[b, k, q]) * (t - begin)  # type: ignore[attr-defined]
            found.append((bool(events.donor_BKQ[b, k, q]), at))  # type: ignore[attr-defined]
        begin = max(begin, stop)
    return found


def test_targets_of_artificial_events_follow_their_pieces(
    table_of: Callable[..., pa.Table],
) -> None:
    bank = PairBank.from_table(table_of(num_patients=4, num_cells=5))
    bags = draw_bags(bank, BagConfig(num_cells=4), seed=0)
    events = draw_events(bank, bags, EventConfig(abnormal_share=0.9, translocations=True), seed=0)
    kinds = np.asarray(ARTIFICIAL, object)[events.kind_B]
    targets = Targets.of(Epoch(bags, events, events.abnormal_B, kinds), bank)
    seen = set()
    for b, kind in enumerate(kinds):
        seen.add(kind)
        if kind in {"normal", "sham"}:
            assert targets.kind_B[b] == KIND_CODE["none"]
            assert not targets.abnormal_BK[b].any()
            continue
        if kind == "wrong_pair":
            assert targets.kind_B[b] == -1
            assert np.isnan(targets.segment_B2[b]).all()
            continue
        starts, stops = [], []
        for k in np.nonzero(bags.mask_BK[b])[0]:
            homolog = int(events.homolog_BK[b, k])
            length = int(bank.codes.length_NP[bags.row_BK[b, k], homolog])
            sources = _sources(events, b, int(k), length)
            own = [at for donor, at in sources if not donor]
            if kind == "deletion":
                changed = sorted(set(range(length)) - set(own))
            elif kind == "duplication":
                changed = sorted(at for at in set(own) if own.count(at) > 1)
            elif kind == "inversion":
                changed = [at for t, (_, at) in enumerate(sources) if at != t]
                # The middle of a turned segment may stay where it was.
                changed = list(range(min(changed), max(changed) + 1))
            elif kind in {"replacement", "translocation"}:
                changed = sorted(set(range(length)) - set(own))
            else:
                changed = []
            if changed:
                starts.append(changed[0] / length)
                stops.append((changed[-1] + 1) / length)
            if kind == "addition":
                at = next(t for t, (donor, _) in enumerate(sources) if donor)
                starts.append(at / length)
                stops.append(at / length)
        if kind == "robertsonian":
            table = band_table(FINEST_LEVEL)[CHROMOSOMES[bags.chromosome_B[b]]]
            starts, stops = [0.0], [table.centromere_iscn / table.length_iscn]
        np.testing.assert_allclose(
            targets.segment_B2[b], [np.mean(starts), np.mean(stops)], atol=1e-6, err_msg=kind
        )
    assert seen == set(ARTIFICIAL) - {"sham"}
