"""What the types of a patient say together."""

import math

import numpy as np
import pytest

from homnet.bags.assessment import NotAssessed, PatientType
from homnet.karyotype.kinds import SHOWN
from homnet.patients.across_types import missing_homologs, notes, of_one_clone, with_partners
from homnet.patients.clonality import Clone
from homnet.patients.finding import BreakpointEstimate, Finding
from homnet.patients.verdict import TypeVerdict


def _finding(chromosome: str, **kinds: float) -> Finding:
    all_kinds = {kind: kinds.get(kind, 0.0) for kind in SHOWN} if kinds else {}
    return Finding(*PatientType("h1", "p1", chromosome), 0.5, (), all_kinds)


LIKE_A_DELETION = {"deletion": 0.5, "insertion_translocation": 0.3, "none": 0.2}
LIKE_AN_EXCHANGE = {"deletion": 0.3, "insertion_translocation": 0.5, "none": 0.2}
SURE = {"insertion_translocation": 1.0}


def test_what_looks_like_a_deletion_is_an_exchange_beside_an_abnormal_partner() -> None:
    findings = [_finding("5", **LIKE_A_DELETION), _finding("9", **SURE), _finding("1", none=1.0)]
    five, nine, one = with_partners(findings, np.array([6.0, 8.0, -3.0]))
    # Bayes by hand: one of the two others is abnormal, either as likely, in 90 or 10 of 100.
    ratio = (math.exp(8) + math.exp(-3)) / 2
    loss, gain = 0.5 * (0.9 + 0.1 * ratio), 0.3 * (0.1 + 0.9 * ratio)
    assert five.kinds["none"] == 0.2
    assert five.kinds["deletion"] == pytest.approx(0.8 * loss / (loss + gain))
    assert five.abnormal_kind == "insertion_translocation"
    assert nine.kinds == findings[1].kinds
    assert one.kinds == findings[2].kinds


def test_a_clear_deletion_stays_one_beside_another_abnormality() -> None:
    clear = _finding("5", deletion=0.95, insertion_translocation=0.03, none=0.02)
    five, _ = with_partners([clear, _finding("7", deletion=1.0)], np.array([12.0, 12.0]))
    assert five.abnormal_kind == "deletion"


def test_foreign_material_without_a_partner_is_less_likely() -> None:
    findings = [_finding("5", **LIKE_AN_EXCHANGE), _finding("9", none=1.0), _finding("1", none=1.0)]
    five, *_ = with_partners(findings, np.array([6.0, -3.0, -3.0]))
    assert five.abnormal_kind == "deletion"
    assert sum(five.kinds.values()) == pytest.approx(1)


def test_without_evidence_of_others_kinds_stay() -> None:
    findings = [_finding("5", **LIKE_AN_EXCHANGE), _finding("9", **LIKE_A_DELETION), _finding("1")]
    evidence = np.array([6.0, np.nan, np.nan])
    assert with_partners(findings, evidence) == findings
    assert with_partners(findings[:1], evidence[:1]) == findings[:1]
    # Types with too few cells are no partners; who has no kinds gets none.
    first, _, last = with_partners(findings, np.array([6.0, np.nan, 0.0]))
    assert first.kinds == pytest.approx(findings[0].kinds)
    assert last.kinds == {}


def _flagged(chromosome: str, *, num_abnormal: int = 5, **places: float) -> TypeVerdict:
    (kind,) = [name for name in SHOWN if name in places] or ["inversion"]
    at = {
        name: BreakpointEstimate.at(chromosome, mb, mb - 1, mb + 1, 550)
        for name, mb in places.items()
        if name not in SHOWN
    }
    kinds = {name: float(name == kind) for name in SHOWN}
    finding = Finding("h1", "p1", chromosome, 0.9, (), kinds, **at)
    clone = Clone(10, num_abnormal, 0.5, 0.2, 0.8)
    return TypeVerdict(chromosome, finding, 5.0, flagged=True, clone=clone, draft=None)


def test_what_one_cell_shows_is_no_part_of_a_verdict_that_rests_on_a_clone() -> None:
    five, seven = _flagged("5"), _flagged("7", num_abnormal=1)
    kept, said = of_one_clone([five, seven])
    assert [one.flagged for one in kept] == [True, False]
    assert said == (
        "Chromosome 7 looks abnormal in fewer than 2 cells: no clone, and no part of this verdict.",
    )
    # Without any clone the patient is not assessed, and says where.
    assert of_one_clone([seven]) == ([seven], ())


def test_a_normal_variant_is_said_to_be_one() -> None:
    (said,) = notes([_flagged("9", inversion=1, start=39.5, stop=65.0)], {}, 10)
    assert said.endswith("in the place of a common normal variant: inv(9)(p12q13).")
    assert notes([_flagged("9", inversion=1, start=20.0, stop=100.0)], {}, 10) == ()


def test_the_direction_of_a_duplication_is_not_claimed() -> None:
    (said,) = notes([_flagged("5", duplication=1, start=80.0, stop=100.0)], {}, 10)
    assert said == (
        "Whether the duplication on chromosome 5 is direct or inverted was not assessed."
    )


def test_an_x_is_missing_only_where_there_is_no_y() -> None:
    def single(chromosome: str) -> NotAssessed:
        return NotAssessed(chromosome, ("c1", "c2", "c3"), "single_homolog")

    assert missing_homologs([single("X"), single("Y")], {"1"}, 3) == {}
    assert missing_homologs([single("X")], {"1", "Y"}, 3) == {}, "two Y"
    without_y = NotAssessed("Y", (), "no_pair")
    assert missing_homologs([single("X"), without_y], {"1"}, 3) == {"X": 3}
    (said,) = notes([], {"X": 3}, 3)
    assert "one homolog only in 3 of 3 cells and no Y was used: a missing chromosome" in said
