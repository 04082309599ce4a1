"""Karyograms show every homolog, and mark what is abnormal."""

from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest

from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.patients.finding import CellFinding
from homnet.patients.verdict import PatientVerdict
from homnet.report.examples import Example, pairs_by_cell
from homnet.report.karyogram import evidence, single_pairs, whole_cell

Element = ElementTree.Element
_BANDED = np.arange(300) % 90 + 60


def _all(root: Element, tag: str) -> list[Element]:
    return [one for one in root.iter() if one.tag.endswith(tag)]


def _num_homologs(root: Element) -> int:
    """Homologs of a picture: each has a waist, cut from both sides."""
    (waists,) = [one for one in _all(root, "path") if one.attrib["fill"] == "#fff"]
    return waists.attrib["d"].count("M") // 2


def test_all_cells_of_a_type_are_one_well_formed_picture(
    table: pa.Table, verdict: PatientVerdict
) -> None:
    finding = verdict.types[0].finding
    assert finding is not None
    cells = pairs_by_cell(table, verdict.patient_id)
    pairs = {name: cell["5"] for name, cell in cells.items() if "5" in cell}
    svg = evidence(finding, pairs, level=400, samples_per_px=3.0, label="five <5>")
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == "five <5>"
    assert len(_all(root, "image")) == 1
    assert _num_homologs(root) == sum(int(one.any(axis=(1, 2)).sum()) for one in pairs.values())
    texts = [one.text or "" for one in _all(root, "text")]
    assert texts.count("▲") == sum(int(pair[1].any()) for pair in pairs.values())
    assert "p14" in texts
    assert "abnormal 0.90" in texts
    assert "right homolog 0.80" in texts
    assert sum("fill-opacity" in one.attrib for one in root.iter()) > 3


def test_cells_that_were_not_compared_come_last_and_are_said_so(
    table: pa.Table, verdict: PatientVerdict
) -> None:
    finding = verdict.types[0].finding
    assert finding is not None
    cells = pairs_by_cell(table, verdict.patient_id)
    pairs = {name: cell["5"] for name, cell in cells.items() if "5" in cell}
    first, *others = finding.cells
    part = replace(finding, cells=tuple(others))
    for coarse in (False, True):
        svg = evidence(part, pairs, level=400, samples_per_px=3.0, label="", coarse=coarse)
        texts = [one.text for one in _all(ElementTree.fromstring(svg), "text")]
        assert texts[-1] == "not compared"
        assert (texts[-2] or "").endswith(first.cell_id[-9:])


def test_a_cell_is_shown_in_the_usual_order_and_groups(table: pa.Table) -> None:
    cells = pairs_by_cell(table, table["patient_id"][0].as_py())
    cell = next(iter(cells.values()))
    svg = whole_cell(cell, ["5"], typical_profiles={}, samples_per_px=3.0, label="cell")
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img"
    marked = [one.text for one in root.iter() if one.attrib.get("font-weight") == "700"]
    assert marked == ["▸ 5"]
    labels = [one for one in root.iter() if one.attrib.get("font-size") == "13"]
    names = [(one.text or "").removeprefix("▸ ").removesuffix(" (none)") for one in labels]
    assert tuple(names) in {CHROMOSOMES, CHROMOSOMES[:23]}
    rows: dict[str, list[float]] = {}
    for one in labels:
        rows.setdefault(one.attrib["y"], []).append(float(one.attrib["x"]))
    assert [len(row) for row in rows.values()] == [5, 7, 6, len(labels) - 18]
    assert all(row == sorted(row) for row in rows.values())
    groups = [one.text for one in _all(root, "text") if one.text in set("ABCDEFG")]
    assert groups == list("ABCDEFG")
    # The gap between two groups is wider than that within one.
    steps = np.diff(next(iter(rows.values())))
    assert steps[[0, 1]] == pytest.approx(steps[3], abs=0.2)
    assert steps[2] > 1.2 * steps[3]
    assert _num_homologs(root) == sum(int(one.any(axis=(1, 2)).sum()) for one in cell.values())


def test_types_are_links_with_names(table: pa.Table) -> None:
    cell = next(iter(pairs_by_cell(table, table["patient_id"][0].as_py()).values()))
    links = {"5": "Chromosome 5, flagged & framed", "7": "Chromosome 7"}
    svg = whole_cell(
        cell, ["5"], typical_profiles={}, samples_per_px=3.0, label="cell", links=links
    )
    root = ElementTree.fromstring(svg)
    # The children of an image are not read out.
    assert root.attrib["role"] == "group"
    found = _all(root, "}a")
    assert {one.attrib["href"]: one.attrib["aria-label"] for one in found} == {
        f"#type-{name}": words for name, words in links.items()
    }
    frames = [_all(one, "rect")[0].attrib for one in found]
    assert [one["pointer-events"] for one in frames] == ["all", "all"]
    assert [one["stroke"] != "none" for one in frames] == [True, False]


@pytest.fixture
def karyogram() -> Callable[..., Element]:
    """The maker of karyograms of a cell with one type, with the finding of a reader."""

    def make(finding: CellFinding, *, flagged: bool = True, missing: int | None = None) -> Element:
        pair = np.zeros((2, 2, 512), np.uint8)
        pair[..., :300] = _BANDED
        if missing is not None:
            pair[missing] = 0
        return ElementTree.fromstring(
            whole_cell(
                {"1": pair},
                ["1"] if flagged else [],
                typical_profiles={},
                samples_per_px=3.0,
                label="cell",
                findings={"1": finding},
            )
        )

    return make


def _scores(homolog: int, start: int, stop: int) -> np.ndarray[tuple[int, int], np.dtype]:
    score_PL = np.full((2, 512), 0.3, np.float32)
    score_PL[homolog, start:stop] = 0.8
    return score_PL


def test_the_abnormal_homolog_and_region_are_marked_where_the_reader_says_so(
    karyogram: Callable[..., Element],
) -> None:
    def regions(root: Element) -> list[dict[str, str]]:
        return [one.attrib for one in _all(root, "rect") if one.attrib["class"] == "region"]

    def arrows(root: Element) -> list[float]:
        return [float(one.attrib["x"]) for one in _all(root, "text") if one.text == "▲"]

    unit = 1.35 / 3.0
    right = karyogram(CellFinding("c", 400, 0.9, 1, 0.8, _scores(1, 60, 120)))
    image = _all(right, "image")[0].attrib
    left_edge, top = float(image["x"]), float(image["y"])
    middle = left_edge + float(image["width"]) / 2
    (region,) = regions(right)
    assert float(region["x"]) > middle
    assert float(region["height"]) == pytest.approx(60 * unit, abs=0.1)
    assert float(region["y"]) == pytest.approx(top + 60 * unit, abs=0.2)
    assert arrows(right)[0] > middle
    left = karyogram(CellFinding("c", 400, 0.9, 0, 0.8, _scores(0, 60, 120)))
    assert float(regions(left)[0]["x"]) < left_edge
    assert arrows(left)[0] < middle
    # The slot counts, not the place among the homologs that are there.
    alone = karyogram(CellFinding("c", 400, 0.9, 1, 0.8, _scores(1, 60, 120)), missing=0)
    assert len(arrows(alone)) == len(regions(alone)) == 1
    # No mark without a reader, in a cell that looks normal, or on a type that is not flagged.
    assert not arrows(karyogram(CellFinding("c", 400, 0.9)))
    assert not arrows(karyogram(CellFinding("c", 400, 0.4, 1, 0.8)))
    unflagged = karyogram(CellFinding("c", 400, 0.9, 1, 0.8, _scores(1, 60, 120)), flagged=False)
    assert not arrows(unflagged)
    assert not regions(unflagged)


def _mark(kind: str | None, start: int | None, stop: int | None) -> list[Element]:
    pair = np.zeros((2, 2, 512), np.uint8)
    pair[..., :300] = _BANDED
    one = Example(pair, "north", "7", 550, 3.0, kind, None if kind is None else 1, start, stop)
    # Hospitals may differ in scale.
    root = ElementTree.fromstring(
        single_pairs([one, replace(one, samples_per_px=4.0)], label="two pairs")
    )
    assert len(_all(root, "image")) == 2
    words = [part.text for part in _all(root, "text")]
    assert words[:3] == ["north", "chr 7, 550 bands", kind or "normal"]
    return _all(root, "rect")


def test_the_event_of_a_pair_is_marked_where_it_is_known() -> None:
    images_per_sample = 1.35 / 3
    mark = _mark("duplication", 100, 200)[0].attrib
    # Homologs are on whole pixels, of two samples.
    assert float(mark["y"]) == pytest.approx(46 + 100 * images_per_sample - 1.5, abs=0.5)
    assert float(mark["height"]) == pytest.approx(100 * images_per_sample + 3, abs=0.06)
    # The junction of a deletion is a point, and still to be seen.
    assert float(_mark("deletion", 50, 50)[1].attrib["height"]) == 3.0
    assert _mark("translocation", None, None) == []
    assert _mark(None, None, None) == []
