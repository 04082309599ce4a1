"""The page of a cohort shows a whole cell, and an abnormal pair of each hospital with patients."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.report.contents_page import render_contents
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import healthy, hospitals


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    people = [(healthy(), 1), (hospitals()[2], 3)]
    tables = [
        simulate_person(1, hospital, i, 2.0) for hospital, number in people for i in range(number)
    ]
    scale = {hospital.name: 3.0 for hospital, _ in people}
    path: Path = tmp_path_factory.mktemp("cohort") / "people"
    return write_cohort(path, tables, scale=scale, provenance={})


def _pictures(page: str) -> list[ElementTree.Element]:
    return [
        ElementTree.fromstring(f"<svg{part.partition('</svg>')[0]}</svg>")
        for part in page.split("<svg")[1:]
    ]


def test_the_page_shows_every_type_and_an_abnormal_pair(cohort: Cohort) -> None:
    page = render_contents(cohort, "the <counts>", np.random.default_rng(0))
    assert "Cohort people" in page
    assert "the &lt;counts&gt;" in page
    assert "chromosomes; short arms up" in page
    cell, pairs = _pictures(page)
    # One picture of all chromosomes; each has a waist that is cut from both sides.
    assert len([one for one in cell.iter() if one.tag.endswith("image")]) == 1
    waists = [one.attrib["d"] for one in cell.iter() if one.attrib.get("fill") == "#fff"]
    assert "".join(waists).count("M") >= 2 * 35
    words = [one.text for one in pairs.iter() if one.tag.endswith("text")]
    kinds = dict(zip(words[::3], words[2::3], strict=True))
    assert kinds["healthy-1"] == "normal"
    assert {words[at + 2] for at in range(0, len(words), 3) if words[at] == "hospital-3"} > {
        "normal"
    }
    assert any(one.tag.endswith("rect") for one in pairs.iter())


def test_the_same_seed_draws_the_same_page(cohort: Cohort) -> None:
    first, again = (render_contents(cohort, "", np.random.default_rng(3)) for _ in range(2))
    assert first == again
