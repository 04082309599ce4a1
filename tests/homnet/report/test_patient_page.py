"""The page of a patient: what it says, and that it needs nothing beside it."""

import re
from dataclasses import replace

import pyarrow as pa

from homnet.patients.verdict import Abstention, PatientVerdict
from homnet.report.patient_page import render_patient


def test_the_page_stands_alone_and_says_what_it_must(
    table: pa.Table, verdict: PatientVerdict
) -> None:
    page = render_patient(verdict, table, samples_per_px=3.0)
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert "Research use only. Not for diagnosis" in page
    assert "del(5)(p14) draft, to be confirmed" in page
    # A name never stands without being called a draft.
    assert page.count("del(5)(p14)") == page.count("del(5)(p14) draft, to be confirmed")
    assert "no &lt;second&gt; homolog" in page
    assert "A note &amp; more." in page
    assert "0.81" in page
    assert "3.0&nbsp;%" in page or "3 %" in page or "3.0 %" in page
    for version in ("abc", "def"):
        assert version in page


def test_an_abstention_is_said_first_and_findings_are_no_findings(
    table: pa.Table, verdict: PatientVerdict
) -> None:
    verdict = replace(
        verdict,
        decision="not_assessed",
        abstentions=(Abstention("poor_bands", "poor bands: 1 of 3 cells"),),
    )
    page = render_patient(verdict, table, samples_per_px=3.0)
    assert "Poor bands: 1 of 3 cells." in page
    assert "it is no finding" in page


def test_who_falls_short_of_the_threshold_but_is_likely_a_carrier_is_said_so(
    table: pa.Table, verdict: PatientVerdict
) -> None:
    found = replace(verdict, decision="no_abnormality_found")
    sentence = "Most of it comes from chromosome 5."
    assert sentence in render_patient(found, table, samples_per_px=3.0)
    unlikely = replace(found, probability=0.49)
    assert sentence not in render_patient(unlikely, table, samples_per_px=3.0)
    assert sentence not in render_patient(verdict, table, samples_per_px=3.0)


def test_a_patient_without_cells_has_a_page(table: pa.Table, verdict: PatientVerdict) -> None:
    empty = replace(
        verdict,
        decision="not_assessed",
        types=(),
        cells={},
        score=None,
        probability=None,
        notes=(),
        abstentions=(Abstention("nothing_to_compare", "no pair of homologs was sent"),),
    )
    assert "No pair of homologs was sent." in render_patient(
        empty, table.slice(0, 0), samples_per_px=3.0
    )
