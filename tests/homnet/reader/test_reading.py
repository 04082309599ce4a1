"""From logits to findings."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch

from homnet.bags.assessment import assess
from homnet.karyotype.bands import band_table
from homnet.model.network import HomNetConfig
from homnet.patients.finding import Finding
from homnet.reader.network import ReaderConfig
from homnet.reader.places import share_of_mb
from homnet.reader.reading import CalibratedReader, Place, _estimate, places_of

CALIBRATION = {"kind": 1.5, "segment": 1.0, "cell": 2.0}


def _logits(start: dict[int, float], stop: dict[int, float], num: int = 18) -> np.ndarray:
    logit_2G = np.full((2, num), -30.0)
    for side, chosen in enumerate((start, stop)):
        for place, p in chosen.items():
            logit_2G[side, place] = np.log(p)
    return logit_2G


def test_a_sharp_peak_is_its_position() -> None:
    start, stop = places_of(_logits({5: 1.0}, {12: 1.0}), 1.0)
    # Place 5 of 16 inner ones holds the shares 4/16 to 5/16.
    assert (start.share, start.low, start.high) == pytest.approx((4.5 / 16, 4.05 / 16, 4.95 / 16))
    assert stop.share == pytest.approx(11.5 / 16)


@pytest.mark.parametrize("level", [300, 400, 550, 700])
@pytest.mark.parametrize(("chromosome", "mb"), [("5", 22.0), ("5", 150.0), ("16", 40.0)])
def test_megabases_come_back_at_every_level(chromosome: str, mb: float, level: int) -> None:
    share = share_of_mb(chromosome, mb)
    estimate = _estimate(chromosome, Place(share, share - 0.01, share + 0.01), level)
    assert estimate is not None
    assert estimate.mb == pytest.approx(mb, abs=0.01)
    assert estimate.level == level


def test_a_tip_is_chosen_by_the_greater_half() -> None:
    start, _ = places_of(_logits({0: 0.6, 5: 0.4}, {12: 1.0}), 1.0)
    assert start.share == 0.0
    assert start.at_tip
    start, stop = places_of(_logits({0: 0.4, 5: 0.6}, {17: 1.0}), 1.0)
    assert start.share == pytest.approx(4.5 / 16)
    assert not start.at_tip
    assert stop.share == 1.0


def test_start_and_stop_are_read_together() -> None:
    # Alone, the start would be at 12; but with a stop at 6 for sure, only 3 is possible.
    start, stop = places_of(_logits({3: 0.3, 12: 0.7}, {6: 1.0}), 1.0)
    assert start.share == pytest.approx(2.5 / 16)
    assert stop.share == pytest.approx(5.5 / 16)


def test_intervals_hold_what_they_promise() -> None:
    uniform = dict.fromkeys(range(1, 17), 1 / 16)
    start, _ = places_of(_logits(uniform, {17: 1.0}), 1.0)
    assert (start.share, start.low, start.high) == pytest.approx((0.5, 0.05, 0.95))


@pytest.fixture(scope="module")
def reader(form: HomNetConfig) -> CalibratedReader:
    torch.manual_seed(0)
    return CalibratedReader(ReaderConfig(model=form, width=16).build(), CALIBRATION, version="v1")


@pytest.fixture(scope="module")
def table(table_of: Callable[..., pa.Table]) -> pa.Table:
    return table_of(num_patients=2, num_cells=4, chromosomes=("1", "5", "21"))


def test_one_finding_for_each_type(reader: CalibratedReader, table: pa.Table) -> None:
    assessment = assess(table, max_cells=3)
    findings = reader(assessment)
    assert [(f.hospital, f.patient_id, f.chromosome) for f in findings] == list(assessment.types)
    for finding in findings:
        assert finding.probability is None
        assert finding.reader == reader.version == "v1"
        assert [cell.cell_id for cell in finding.cells] == ["c0", "c1", "c2", "c3"]
        assert finding.not_answered == ()
        for cell in finding.cells:
            assert cell.homolog_probability is not None
            assert cell.homolog_probability >= 0.5
            assert cell.score_PL is not None
        for place in (finding.start, finding.stop):
            if place is not None:
                bands = band_table(place.level)[finding.chromosome]
                assert place.band == bands.at(bands.to_iscn(place.mb * 1e6)).label
        assert Finding.from_json(finding.to_json()).to_json() == finding.to_json()


def test_scores_end_with_the_chromosome(reader: CalibratedReader, table: pa.Table) -> None:
    assessment = assess(table)
    for finding in reader(assessment):
        for cell in finding.cells:
            n = next(
                n
                for n, name in enumerate(assessment.cell_N)
                if name == cell.cell_id
                and assessment.types[np.repeat(assessment.type_B, assessment.bags.size_B)[n]]
                == (finding.hospital, finding.patient_id, finding.chromosome)
            )
            filled = assessment.bags.pair_NPCL[n].any(axis=1)
            assert cell.score_PL is not None
            np.testing.assert_array_equal(cell.score_PL > 0, filled)


def test_what_rides_along_changes_nothing(reader: CalibratedReader, table: pa.Table) -> None:
    whole = reader(assess(table))
    for patient in ("h1-p0", "h1-p1"):
        rows = [p == patient for p in table["patient_id"].to_pylist()]
        part = reader(assess(table.filter(pa.array(rows))))
        mine = [finding for finding in whole if finding.patient_id == patient]
        for one, other in zip(part, mine, strict=True):
            for kind, p in one.kinds.items():
                assert p == pytest.approx(other.kinds[kind], abs=1e-5)


def test_scores_swap_with_the_homologs(reader: CalibratedReader, table: pa.Table) -> None:
    assessment = assess(table)
    bags = dataclasses.replace(
        assessment.bags, pair_NPCL=np.ascontiguousarray(assessment.bags.pair_NPCL[:, ::-1])
    )
    swapped = dataclasses.replace(assessment, bags=bags)
    for one, other in zip(reader(assessment), reader(swapped), strict=True):
        for cell, back in zip(one.cells, other.cells, strict=True):
            assert cell.score_PL is not None
            assert back.score_PL is not None
            np.testing.assert_allclose(cell.score_PL, back.score_PL[::-1], atol=1e-4)
            assert cell.probability == pytest.approx(back.probability, abs=1e-4)
