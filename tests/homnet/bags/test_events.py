"""Artificial abnormalities against references that copy or mix one position at a time."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from homnet.bags.draw import BagConfig, Bags, PairBank, draw_bags, with_parts
from homnet.bags.events import (
    EventConfig,
    Events,
    EventTensors,
    apply_events,
    draw_events,
)
from homnet.errors import ConfigError, DataError
from homnet.karyotype.chromosomes import ACROCENTRICS, CHROMOSOMES, DENVER_GROUP_OF
from homnet.karyotype.kinds import ARTIFICIAL

TableOf = Callable[..., pa.Table]
Drawn = tuple[PairBank, Bags, Events]
EVERY_KIND = EventConfig(sham_share=0.5, translocations=True)


@pytest.fixture(scope="module")
def drawn(table_of: TableOf) -> Drawn:
    bank = PairBank.from_table(table_of(num_patients=6, num_cells=4))
    bags = draw_bags(bank, BagConfig(num_cells=3, rounds=8), seed=1)
    return bank, bags, draw_events(bank, bags, EVERY_KIND, seed=2)


@pytest.fixture(scope="module", params=["sizes as usual", "short pieces"])
def optical(request: pytest.FixtureRequest, table_of: TableOf) -> Drawn:
    """Events of long chromosomes, with ends beyond position 512, at 3 and 2 samples per pixel."""
    tables = [table_of(h, num_patients=4, num_cells=3, seed=n) for n, h in enumerate("ab")]
    rows = [with_parts(t, n, s) for t, n, s in zip(tables, (0, 1), (3.0, 2.0), strict=True)]
    bank = PairBank.from_table(pa.concat_tables(rows))
    pair_NPCL = bank.pair_NPCL.repeat(2, axis=-1)[..., :512]
    lengths = {name: 2 * bank.frame[name] for name in ("length_0", "length_1")}
    bank = replace(bank, frame=bank.frame.assign(**lengths), pair_NPCL=pair_NPCL)
    few = {"min_fraction": 0.003, "max_fraction": 0.02, "margin": 0.0}
    sizes = few if request.param == "short pieces" else {}
    bags = draw_bags(bank, BagConfig(num_cells=2, rounds=6), seed=1)
    config = replace(EVERY_KIND, robertsonian="any", seam_px=1.2, **sizes)
    return bank, bags, draw_events(bank, bags, config, seed=2)


def _apply(bank: PairBank, bags: Bags, events: Events) -> torch.Tensor:
    pairs, donors = torch.tensor(bank.pair_NPCL), torch.tensor(events.donor_BK2)
    return apply_events(pairs, torch.tensor(bags.row_BK), donors, EventTensors.of(events, "cpu"))


def _applied(drawn: Drawn) -> NDArray[np.uint8]:
    return _apply(*drawn).numpy()  # type: ignore[no-any-return]


def _reference(
    kind: str, own: list[int], donor: list[int], start: int, size: int, donor_start: int
) -> list[int]:  # of a translocation, size is what the donor gives
    """The paper's appendix A.1 on one list of darkness values, without index maps."""
    if kind in ("normal",):
        return own
    if kind == "deletion":
        return own[:start] + own[start + size :]
    if kind == "addition":
        return own[:start] + donor[donor_start : donor_start + size] + own[start:]
    if kind == "duplication":
        return own[: start + size] + own[start : start + size] + own[start + size :]
    if kind == "inversion":
        return own[:start] + own[start : start + size][::-1] + own[start + size :]
    if kind in ("replacement", "sham"):
        return own[:start] + donor[donor_start : donor_start + size] + own[start + size :]
    if kind == "robertsonian":
        return own[::-1] + own
    if kind == "wrong_pair":
        return donor
    if kind == "translocation" and donor_start == 0:
        return donor[:size] + own[start:]
    if kind == "translocation":
        return own[:start] + donor[donor_start:]
    raise AssertionError(kind)


def _parameters(kind: str, events: Events, b: int, k: int) -> tuple[int, int, int]:
    """Start, size and donor start, read back from the pieces."""
    stop, origin = events.stop_BKQ[b, k], events.origin_BKQ[b, k]
    if kind == "deletion":
        return int(stop[0]), int(origin[1] - stop[0]), 0
    if kind == "duplication":
        return int(origin[1]), int(stop[0] - origin[1]), 0
    if kind in ("addition", "inversion", "replacement", "sham"):
        return int(stop[0]), int(stop[1] - stop[0]), int(origin[1])
    if kind == "translocation" and stop[0]:
        return int(origin[1]), int(stop[0]), 0
    if kind == "translocation":
        return int(stop[1]), 0, int(origin[2])
    return 0, 0, 0


@pytest.mark.parametrize("kind", ARTIFICIAL)
def test_each_kind_equals_the_reference(kind: str, drawn: Drawn) -> None:
    bank, bags, events = drawn
    x_BKPCL = _applied(drawn)
    chosen = np.nonzero(events.kind_B == ARTIFICIAL.index(kind))[0]
    assert len(chosen) > 5, "the draw must hold every kind"
    for b in chosen[:25]:
        for k in np.nonzero(bags.mask_BK[b])[0]:
            row, homolog = bags.row_BK[b, k], events.homolog_BK[b, k]
            start, size, donor_start = _parameters(kind, events, b, k)
            donor_row, donor_homolog = events.donor_row_BK[b, k], events.donor_homolog_BK[b, k]
            n = bank.codes.length_NP[row, homolog]
            m = bank.codes.length_NP[donor_row, donor_homolog]
            for chromatid in range(2):
                own = bank.pair_NPCL[row, homolog, chromatid, :n].tolist()
                donor = bank.pair_NPCL[donor_row, donor_homolog, chromatid, :m].tolist()
                expected = _reference(kind, own, donor, start, size, donor_start)[:512]
                got = x_BKPCL[b, k, homolog, chromatid]
                assert got[: len(expected)].tolist() == expected
                assert not got[len(expected) :].any()
            np.testing.assert_array_equal(
                x_BKPCL[b, k, 1 - homolog], bank.pair_NPCL[row, 1 - homolog]
            )


def test_lengths_change_as_each_kind_says(drawn: Drawn) -> None:
    bank, bags, events = drawn
    before = bank.codes.length_NP[bags.row_BK, events.homolog_BK]
    after = events.stop_BKQ[..., 2]
    ratio = dict.fromkeys(ARTIFICIAL, np.empty(0)) | {
        kind: (after / before)[events.kind_B == code] for code, kind in enumerate(ARTIFICIAL)
    }
    assert (ratio["deletion"] < 0.95).all()
    assert (ratio["addition"] > 1.05).all()
    assert (ratio["duplication"] > 1.05).all()
    for kind in ("normal", "inversion", "replacement", "sham"):
        assert (ratio[kind] == 1).all()
    assert (ratio["robertsonian"] == 2).all()


def test_sizes_are_as_configured_and_close_between_cells(drawn: Drawn) -> None:
    bank, bags, events = drawn
    inverted = events.kind_B == ARTIFICIAL.index("inversion")
    length = bank.codes.length_NP[bags.row_BK, events.homolog_BK][inverted]
    size = np.diff(events.truth_BK2[inverted], axis=-1)[..., 0]
    share = size / length
    assert ((share > 0.10 - 0.03) & (share < 0.35 + 0.03)).all()
    spread = share.max(axis=1) - share.min(axis=1)
    assert 0 < spread.mean() < 0.05
    np.testing.assert_allclose(share.mean(axis=1), events.fraction_B[inverted], atol=0.03)


def test_the_truth_is_where_the_homolog_differs(drawn: Drawn) -> None:
    bank, bags, events = drawn
    x_BKPCL = _applied(drawn)
    mask = _true_places(events)
    for kind in ("inversion", "replacement", "translocation"):
        chosen = events.kind_B == ARTIFICIAL.index(kind)
        if kind == "translocation":  # an end of the long arm: nothing before it moves
            chosen &= (events.stop_BKQ[..., 0] == 0).all(axis=1)
            mask[chosen] |= _behind(events, bank.codes.length_NP[bags.row_BK, events.homolog_BK])[
                chosen
            ]
        changed = (x_BKPCL[chosen] != bank.pair_NPCL[bags.row_BK[chosen]]).any(axis=3)
        assert not (changed & ~mask[chosen]).any()
        assert changed.sum() > 0.8 * mask[chosen].sum()
    assert not mask[~events.abnormal_B].any()


def _true_places(events: Events) -> NDArray[np.bool_]:
    """Positions of the abnormal homolog between the two truth positions (B, K, 2, 512)."""
    t_L = np.arange(512)
    inside_BKL = (t_L >= events.truth_BK2[..., :1]) & (t_L < events.truth_BK2[..., 1:])
    return inside_BKL[:, :, None] & (events.homolog_BK[..., None] == np.arange(2))[..., None]


def _behind(events: Events, length_BK: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Positions of the abnormal homolog from the end of the truth to where it ended before."""
    t_L = np.arange(512)
    behind_BKL = (t_L >= events.truth_BK2[..., 1:]) & (t_L < length_BK[..., None])
    return behind_BKL[:, :, None] & (events.homolog_BK[..., None] == np.arange(2))[..., None]


def _share_before(cut: int, position: int, sigma: float) -> float:
    """Light of a position that comes from before a cut, which is half a sample before the cut's."""
    return (1 + math.erf((cut - 0.5 - position) / (sigma * math.sqrt(2)))) / 2


def _joined(
    events: Events, b: int, k: int, own: list[int], donor: list[int], sigma: float
) -> list[float]:
    """The pieces of a pair that are not empty, read on past their ends and mixed, untruncated."""
    pieces, begin = [], 0
    for q, stop in enumerate(events.stop_BKQ[b, k].tolist()):
        if stop > begin:
            source = donor if events.donor_BKQ[b, k, q] else own
            origin, step = int(events.origin_BKQ[b, k, q]), int(events.step_BKQ[b, k, q])
            pieces.append((begin, stop, origin, step, source))
            begin = stop
    mixed = []
    for t in range(begin):
        value = 0.0
        for number, (start, stop, origin, step, source) in enumerate(pieces):
            until_start = 0.0 if number == 0 else _share_before(start, t, sigma)
            until_stop = 1.0 if number == len(pieces) - 1 else _share_before(stop, t, sigma)
            place = min(max(origin + step * (t - start), 0), len(source) - 1)
            value += (until_stop - until_start) * source[place]
        mixed.append(value)
    return mixed


@pytest.mark.parametrize("kind", ARTIFICIAL)
def test_pieces_are_mixed_as_by_the_reference(kind: str, optical: Drawn) -> None:
    bank, bags, events = optical
    x_BKPCL = _applied(optical)
    chosen = np.nonzero(events.kind_B == ARTIFICIAL.index(kind))[0]
    assert len(chosen) > 5, "the draw must hold every kind"
    for b in chosen[:: -(-len(chosen) // 12)]:
        for k in range(2):
            row, homolog = bags.row_BK[b, k], events.homolog_BK[b, k]
            donor_row, donor_homolog = events.donor_row_BK[b, k], events.donor_homolog_BK[b, k]
            n = bank.codes.length_NP[row, homolog]
            m = bank.codes.length_NP[donor_row, donor_homolog]
            sigma = 1.2 * (3.0 if bank.frame["hospital"][row] == "a" else 2.0)
            for chromatid in range(2):
                own = bank.pair_NPCL[row, homolog, chromatid, :n].tolist()
                donor = bank.pair_NPCL[donor_row, donor_homolog, chromatid, :m].tolist()
                expected = _joined(events, b, k, own, donor, sigma)[:512]
                got = x_BKPCL[b, k, homolog, chromatid]
                # Half a grey level of rounding, and a little of rounded weights.
                np.testing.assert_allclose(got[: len(expected)], expected, atol=0.6)
                assert not got[len(expected) :].any()
            np.testing.assert_array_equal(
                x_BKPCL[b, k, 1 - homolog], bank.pair_NPCL[row, 1 - homolog]
            )


def test_seams_change_nothing_far_from_junctions(optical: Drawn) -> None:
    """Nor the outer tips, the extent, the other homolog or the truth."""
    bank, bags, events = optical
    sharp = _apply(bank, bags, replace(events, seam_B=0 * events.seam_B)).numpy()
    changed_BKPCL = _applied(optical) != sharp
    assert ((_applied(optical) > 0) == (sharp > 0)).all()
    cut_BK2, end_BK1 = events.stop_BKQ[..., :2], events.stop_BKQ[..., 2:]
    junction_BK2 = (cut_BK2 > 0) & (cut_BK2 < end_BK1)
    distance_BK2L = abs(cut_BK2[..., None] - 0.5 - np.arange(512))
    near_BK2L = distance_BK2L < 4 * events.seam_B[:, None, None, None]
    near_BKL = (near_BK2L & junction_BK2[..., None]).any(axis=2)
    assert not (changed_BKPCL.any(axis=(2, 3)) & ~near_BKL).any()
    for code, kind in enumerate(ARTIFICIAL):
        share = changed_BKPCL[events.kind_B == code].any(axis=(2, 3, 4)).mean()
        assert share == 0 if kind in ("normal", "wrong_pair") else share > 0.8, kind


@pytest.mark.parametrize("size", [1, 4, 60])
@pytest.mark.parametrize("start", [2, 90])
def test_even_pieces_are_joined_as_if_blurred_together(
    table_of: TableOf, size: int, start: int
) -> None:
    """Also where the middle piece is shorter than the point spread, and beside a tip."""
    bank = PairBank.from_table(table_of(num_patients=1, chromosomes=("1", "2")))
    bank.pair_NPCL[bank.pair_NPCL > 0] = 50
    of_second = (bank.frame["chromosome"] == 1).to_numpy()
    bank.pair_NPCL[of_second] *= 4
    bags = draw_bags(bank, BagConfig(num_cells=2), seed=0)
    bags = bags.take(np.flatnonzero(bags.chromosome_B == 0)[:1])
    events = draw_events(bank, bags, EventConfig(), seed=0)
    events = replace(
        events,
        donor_row_BK=np.full((1, 2), np.flatnonzero(of_second)[0]),
        stop_BKQ=np.tile(np.int16([start, start + size, 180]), (1, 2, 1)),
        origin_BKQ=np.tile(np.int16([0, 30, start + size]), (1, 2, 1)),
        step_BKQ=np.ones((1, 2, 3), np.int16),
        donor_BKQ=np.tile([False, True, False], (1, 2, 1)),
        seam_B=np.float32([3.5]),
    )
    sharp = np.full(180, 50.0)
    sharp[start : start + size] = 200
    expected = gaussian_filter1d(sharp, 3.5, mode="nearest", truncate=8)
    for k in range(2):
        got = _apply(bank, bags, events)[0, k, events.homolog_BK[0, k], 0, :180]
        np.testing.assert_allclose(got.numpy(), expected, atol=1.0)


def test_a_seam_does_not_depend_on_the_batch(optical: Drawn) -> None:
    bank, bags, events = optical
    whole = _apply(bank, bags, events)
    for b in range(0, len(bags), 40):
        one = slice(b, b + 1)
        assert torch.equal(_apply(bank, bags.take(one), events.take(one)), whole[one])


def test_the_width_of_seams_is_that_of_each_laboratory(table_of: TableOf) -> None:
    tables = [table_of(hospital, num_patients=2) for hospital in "abc"]
    rows = [with_parts(tables[0], 0, 3.0), with_parts(tables[1], 1, 2.5), with_parts(tables[2], 2)]
    bank = PairBank.from_table(pa.concat_tables(rows))
    bags = draw_bags(bank, BagConfig(), seed=0)
    events = draw_events(bank, bags, EventConfig(seam_px=0.8), seed=0)
    hospital_B = bank.frame["hospital"].to_numpy()[bags.row_BK[:, 0]]
    for hospital, samples in (("a", 2.4), ("b", 2.0), ("c", 0.0)):
        np.testing.assert_allclose(events.seam_B[hospital_B == hospital], samples, rtol=1e-6)
    sharp = draw_events(bank, bags, EventConfig(seam_px=0), seed=0)
    for name in Events.__dataclass_fields__:
        same = np.array_equal(getattr(sharp, name), getattr(events, name))
        assert same == (name != "seam_B"), name


@pytest.mark.parametrize("seam_px", [-0.1, math.inf, math.nan])
def test_impossible_seams_are_refused(seam_px: float) -> None:
    with pytest.raises(ConfigError, match=r"events\.seam_px is .*; give a width in pixels"):
        EventConfig(seam_px=seam_px)


def test_ends_are_exchanged_on_both_arms_with_sizes_of_their_own(drawn: Drawn) -> None:
    bank, bags, events = drawn
    chosen = events.kind_B == ARTIFICIAL.index("translocation")
    before = bank.codes.length_NP[bags.row_BK, events.homolog_BK][chosen]
    truth = events.truth_BK2[chosen]
    short_arm = truth[..., 0] == 0
    assert (short_arm == short_arm[:, :1]).all(), "one arm in all cells of a bag"
    assert 0.25 < short_arm[:, 0].mean() < 0.75
    after = events.stop_BKQ[chosen][..., 2]
    assert (truth[..., 1] == np.where(short_arm, truth[..., 1], after)).all(), "reaches the tip"
    lost = (before - (after - (truth[..., 1] - truth[..., 0]))) / before
    np.testing.assert_allclose(lost.mean(axis=1), events.fraction_B[chosen], atol=0.03)
    ratio = after / before
    assert (ratio < 0.95).any()
    assert (ratio > 1.05).any()


def test_only_the_papers_kinds_unless_asked_otherwise(drawn: Drawn) -> None:
    bank, bags, _ = drawn
    papers = draw_events(bank, bags, replace(EVERY_KIND, translocations=False), seed=2)
    assert ARTIFICIAL.index("translocation") not in papers.kind_B


def test_the_slot_tells_nothing(table_of: TableOf) -> None:
    """The homolog that is changed is a fair coin in every cell, whatever the label or kind."""
    bank = PairBank.from_table(table_of(num_patients=10, num_cells=6))
    bags = draw_bags(bank, BagConfig(rounds=20), seed=3)
    events = draw_events(bank, bags, EventConfig(translocations=True), seed=4)
    for code, kind in enumerate(ARTIFICIAL[:-1]):
        slots = events.homolog_BK[events.kind_B == code]
        assert slots.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(slots.size)), kind
    together = (events.homolog_BK[:, 0] == events.homolog_BK[:, 1]).mean()
    assert together == pytest.approx(0.5, abs=0.05), "cells of a bag are drawn independently"


def test_the_type_tells_nothing(table_of: TableOf) -> None:
    bank = PairBank.from_table(table_of(num_patients=10, num_cells=6))
    bags = draw_bags(bank, BagConfig(rounds=10), seed=3)
    events = draw_events(bank, bags, EventConfig(), seed=4)
    for chromosome in range(22):
        labels = events.abnormal_B[bags.chromosome_B == chromosome]
        assert labels.mean() == pytest.approx(0.5, abs=0.02)


def test_donors_come_from_the_same_cell_and_the_right_type(drawn: Drawn) -> None:
    bank, bags, events = drawn
    frame = bank.frame
    for b in np.nonzero(events.abnormal_B)[0]:
        donors = frame.iloc[events.donor_row_BK[b][bags.mask_BK[b]]]
        own = frame.iloc[bags.row_BK[b][bags.mask_BK[b]]]
        assert donors["cell_id"].tolist() == own["cell_id"].tolist()
        assert donors["patient_id"].tolist() == own["patient_id"].tolist()
        assert donors["chromosome"].nunique() == 1
        types = CHROMOSOMES[own["chromosome"].iloc[0]], CHROMOSOMES[donors["chromosome"].iloc[0]]
        assert types[0] != types[1]
        if ARTIFICIAL[events.kind_B[b]] == "wrong_pair":
            assert DENVER_GROUP_OF[types[0]] == DENVER_GROUP_OF[types[1]]


def test_a_sham_is_the_same_place_of_the_same_homolog_in_another_cell(drawn: Drawn) -> None:
    bank, bags, events = drawn
    frame = bank.frame
    shams = np.nonzero(events.kind_B == ARTIFICIAL.index("sham"))[0]
    assert len(shams) > 5
    for b in shams:
        for k in np.nonzero(bags.mask_BK[b])[0]:
            rows = [bags.row_BK[b, k], events.donor_row_BK[b, k]]
            own, donor = (frame.iloc[row] for row in rows)
            assert donor["chromosome"] == own["chromosome"]
            assert donor["patient_id"] == own["patient_id"]
            assert donor["cell_id"] != own["cell_id"]
            homolog = events.homolog_BK[b, k]
            assert events.donor_homolog_BK[b, k] == homolog
            start, size, donor_start = _parameters("sham", events, b, k)
            length, donor_length = bank.codes.length_NP[rows, homolog]
            others = [row for row in bags.row_BK[b][bags.mask_BK[b]] if row != rows[0]]
            ratios = np.abs(np.log(bank.codes.length_NP[others, homolog] / length))
            assert abs(math.log(donor_length / length)) == pytest.approx(ratios.min())
            middle = (start + size / 2) / length
            # At most half a sample for each of two roundings; at an end it has to be inside.
            place = np.clip(middle * donor_length - size / 2, 1, donor_length - size - 1)
            assert donor_start == pytest.approx(place, abs=1)


def test_robertsonian_is_for_acrocentrics_unless_asked_otherwise(drawn: Drawn) -> None:
    bank, bags, events = drawn
    code = ARTIFICIAL.index("robertsonian")

    def types(of: Events) -> set[str]:
        return {CHROMOSOMES[c] for c in bags.chromosome_B[of.kind_B == code]}

    assert types(events) == set(ACROCENTRICS)
    anywhere = draw_events(bank, bags, replace(EVERY_KIND, robertsonian="any"), seed=2)
    assert len(types(anywhere)) > 15


def test_what_does_not_fit_is_cut_at_the_end(table_of: TableOf) -> None:
    bank = PairBank.from_table(table_of(num_patients=2))
    bags = draw_bags(bank, BagConfig(), seed=0)
    events = draw_events(bank, bags, EventConfig(robertsonian="any"), seed=0)
    long = Bags(bags.row_BK[:1], bags.mask_BK[:1], bags.chromosome_B[:1])
    changed = replace(
        events.take(slice(0, 1)),
        stop_BKQ=np.full((1, 5, 3), 700, np.int16),
        origin_BKQ=np.zeros((1, 5, 3), np.int16),
        step_BKQ=np.zeros((1, 5, 3), np.int16),
        donor_BKQ=np.zeros((1, 5, 3), bool),
    )
    x = _apply(bank, long, changed)
    assert x.shape == (1, 5, 2, 2, 512)
    first = torch.tensor(bank.pair_NPCL)[long.row_BK[0], changed.homolog_BK[0], :, 0]
    assert (x[0, torch.arange(5), changed.homolog_BK[0], :, 511] == first).all()


def test_the_bank_is_not_changed(drawn: Drawn) -> None:
    bank, bags, events = drawn
    pairs = torch.tensor(bank.pair_NPCL)
    rows, donors = torch.tensor(bags.row_BK), torch.tensor(events.donor_BK2)
    apply_events(pairs, rows, donors, EventTensors.of(events, "cpu"))
    assert torch.equal(pairs, torch.tensor(bank.pair_NPCL))


@pytest.mark.parametrize(
    "change",
    [{"sham_share": 40}, {"abnormal_share": -0.1}, {"margin": -0.1}, {"jitter": math.nan}],
)
def test_what_is_no_share_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"events.{next(iter(change))} .* between 0 and 1"):
        EventConfig(**change)  # type: ignore[arg-type]


def test_carriers_are_no_material_for_artificial_abnormalities(table_of: TableOf) -> None:
    table = table_of()
    abnormal = pa.array([n == 3 for n in range(len(table))])
    at = table.schema.get_field_index("abnormal")
    bank = PairBank.from_table(table.set_column(at, table.schema.field(at), abnormal))
    bags = draw_bags(bank, BagConfig(), seed=0)
    with pytest.raises(DataError, match=r"take bank\.normal\(\)"):
        draw_events(bank, bags, EventConfig(), seed=0)


def test_events_that_do_not_fit_are_refused(drawn: Drawn) -> None:
    bank, bags, _ = drawn
    with pytest.raises(ConfigError, match="do not fit between margins"):
        draw_events(bank, bags, EventConfig(max_fraction=0.99), seed=0)


def test_one_type_alone_has_no_donors(table_of: TableOf) -> None:
    bank = PairBank.from_table(table_of(chromosomes=("7",)))
    bags = draw_bags(bank, BagConfig(), seed=0)
    with pytest.raises(ConfigError, match="at least two chromosome types"):
        draw_events(bank, bags, EventConfig(), seed=0)


def test_a_bag_of_one_pair_is_no_sham(table_of: TableOf) -> None:
    # It has no other cell to take a segment from.
    bank = PairBank.from_table(table_of(num_patients=4, num_cells=3))
    config = EventConfig(sham_share=1.0)
    for num_cells, has_shams in ((1, False), (3, True)):
        bags = draw_bags(bank, BagConfig(num_cells=num_cells, rounds=4), seed=0)
        events = draw_events(bank, bags, config, seed=0, epoch=0)
        assert (events.kind_B == ARTIFICIAL.index("sham")).any() == has_shams
