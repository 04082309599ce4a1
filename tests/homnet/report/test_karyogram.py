"""Karyograms show every homolog, and mark what is abnormal."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest

from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.patients.finding import CellFinding, Finding
from homnet.patients.verdict import PatientVerdict
from homnet.report.examples import Example, pairs_by_cell
from homnet.report.karyogram import evidence, single_pairs, whole_cell
from homnet.report.photograph import Photograph

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
    assert "right 0.80" in texts
    strips = [one for one in root.iter() if "stroke-opacity" in one.attrib]
    # The score of the right homologs is 0.8 over 40 samples, and falls off at both ends.
    values = [float(one.attrib["stroke-opacity"]) for one in strips]
    assert values.count(0.8) == sum(int(pair[1].any()) for pair in pairs.values())
    assert len(values) == 3 * values.count(0.8)


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


def test_what_is_said_of_a_cell_does_not_run_into_the_next_one(
    table: pa.Table, verdict: PatientVerdict
) -> None:
    finding = verdict.types[0].finding
    assert finding is not None
    sure = [replace(one, probability=0.999, homolog_probability=0.999) for one in finding.cells]
    cells = pairs_by_cell(table, verdict.patient_id)
    pairs = {name: cell["5"] for name, cell in cells.items() if "5" in cell}
    svg = evidence(
        replace(finding, cells=tuple(sure)), pairs, level=400, samples_per_px=3.0, label=""
    )
    lines: dict[str, list[float]] = {}
    for one in _all(ElementTree.fromstring(svg), "text"):
        lines.setdefault(one.text or "", []).append(float(one.attrib["x"]))
    assert "right above 0.99" in lines
    apart = np.diff(lines["abnormal above 0.99"])
    # Bold letters of 10 pixels are 6.2 wide on average in DejaVu Sans, a wide font.
    assert apart[apart > 0].min() > 6.2 * max(map(len, lines))


def test_types_that_are_not_flagged_are_drawn_at_the_same_scale(
    table: pa.Table, verdict: PatientVerdict
) -> None:
    finding = verdict.types[0].finding
    assert finding is not None
    cells = pairs_by_cell(table, verdict.patient_id)
    pairs = {name: cell["5"] for name, cell in cells.items() if "5" in cell}
    tall = [
        ElementTree.fromstring(
            evidence(finding, pairs, level=400, samples_per_px=3.0, label="", coarse=coarse)
        ).attrib["viewBox"]
        for coarse in (False, True)
    ]
    # The waist is found in one of them and taken from the ideogram in the other.
    heights = [float(box.split()[-1]) for box in tall]
    assert heights[1] == pytest.approx(heights[0], rel=0.1)


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
    def regions(root: Element) -> list[list[float]]:
        paths = [one.attrib for one in _all(root, "path") if one.attrib.get("class") == "region"]
        return [[float(one) for one in re.findall(r"[\d.]+", path["d"])] for path in paths]

    def arrows(root: Element) -> list[float]:
        return [float(one.attrib["x"]) for one in _all(root, "text") if one.text == "▲"]

    unit = 1.35 / 3.0
    right = karyogram(CellFinding("c", 400, 0.9, 1, 0.8, _scores(1, 60, 120)))
    image = _all(right, "image")[0].attrib
    left_edge, top = float(image["x"]), float(image["y"])
    middle = left_edge + float(image["width"]) / 2
    ((x, start, other_x, stop),) = regions(right)
    assert x == other_x > middle
    assert stop - start == pytest.approx(60 * unit, abs=0.15)
    assert start == pytest.approx(top + 60 * unit, abs=0.2)
    assert arrows(right)[0] > middle
    left = karyogram(CellFinding("c", 400, 0.9, 0, 0.8, _scores(0, 60, 120)))
    assert regions(left)[0][0] < left_edge
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


def _photographs(width_px: int, length: int = 300) -> tuple[Photograph, ...]:
    """Of a pair: 100 pixels high, with an axis from the upper right to the lower left corner."""
    share_X = np.linspace(0, 1, length + 1)
    border_X2 = np.stack([width_px * (1 - share_X), 100 * share_X], axis=1)
    return tuple(Photograph(name, b"", 100, width_px, border_X2, 5.0) for name in ("a", "b"))


def _uses(root: Element) -> dict[str, tuple[float, float]]:
    """Upper left corners of photographs."""
    return {
        one.attrib["href"]: tuple(map(float, re.findall(r"[-\d.]+", one.attrib["transform"])[:2]))
        for one in _all(root, "use")
    }


def test_marks_follow_the_axis_of_a_photograph() -> None:
    pair = np.zeros((2, 2, 512), np.uint8)
    pair[..., :300] = _BANDED
    finding = CellFinding("c", 400, 0.9, 1, 0.8, _scores(1, 60, 120))
    root = ElementTree.fromstring(
        whole_cell(
            {"1": pair},
            ["1"],
            typical_profiles={},
            samples_per_px=3.0,
            label="cell",
            findings={"1": finding},
            photographs={"1": _photographs(100)},
        )
    )
    assert not _all(root, "image")
    places = _uses(root)
    assert places["#b"][0] == pytest.approx(places["#a"][0] + 135 + 6, abs=0.2)
    assert places["#a"][1] == places["#b"][1]
    (region,) = [one for one in _all(root, "path") if one.attrib.get("class") == "region"]
    points = np.array(re.findall(r"[\d.]+", region.attrib["d"]), float).reshape(-1, 2)
    # At an angle of 45 degrees, 5 pixels and 4.5 units away on the right.
    away = (5 * 1.35 + 4.5) / np.sqrt(2)
    for at, point in ((0.2, points[0]), (0.4, points[-1])):
        on_axis = np.array(places["#b"]) + 135 * np.array([1 - at, at])
        np.testing.assert_allclose(point - on_axis, [away, away], atol=0.2)


@pytest.mark.parametrize("width_px", [20, 90, 300])
def test_wide_homologs_get_the_space_that_they_need(width_px: int) -> None:
    pair = np.zeros((2, 2, 512), np.uint8)
    pair[..., :300] = _BANDED
    wide: Mapping[str, Sequence[Photograph]] = {name: _photographs(width_px) for name in "456"}
    karyogram = ElementTree.fromstring(
        whole_cell(
            dict.fromkeys(CHROMOSOMES, pair),
            [],
            typical_profiles={},
            samples_per_px=3.0,
            label="cell",
            photographs=wide,
        )
    )
    finding = Finding("h", "p", "6", None, tuple(CellFinding(n, 550) for n in "456789"))
    cells = ElementTree.fromstring(
        evidence(
            finding,
            dict.fromkeys("456789", pair),
            level=550,
            samples_per_px=3.0,
            label="cells",
            photographs=wide,
        )
    )
    for root, zoom in ((karyogram, 1.35), (cells, 2.0)):
        assert len(_all(root, "use")) == 6
        spans: dict[float, list[tuple[float, float]]] = {}
        for one in _all(root, "use"):
            x, y = map(float, re.findall(r"[\d.]+", one.attrib["transform"])[:2])
            spans.setdefault(y, []).append((x, x + zoom * width_px))
        for line in spans.values():
            line.sort()
            assert all(end <= start for (_, end), (start, _) in pairwise(line))
            assert line[0][0] >= 0
            assert line[-1][1] <= float(root.attrib["viewBox"].split()[2])


@pytest.mark.parametrize("times", [1, 4, 12])
def test_larger_images_make_no_larger_pages(times: int) -> None:
    pair = np.zeros((2, 2, 512), np.uint8)
    pair[..., :300] = _BANDED
    large = tuple(
        Photograph(
            one.name, b"", times * one.height_px, times * one.width_px, times * one.border_X2, 5.0
        )
        for one in _photographs(20)
    )
    karyogram = whole_cell(
        {"1": pair},
        [],
        typical_profiles={},
        samples_per_px=3.0 / times,
        label="cell",
        photographs={"1": large},
    )
    finding = Finding("h", "p", "1", None, (CellFinding("c", 550),))
    cells = evidence(
        finding,
        {"c": pair},
        level=550,
        samples_per_px=3.0 / times,
        label="",
        photographs={"c": large},
    )
    for svg, per_px in ((karyogram, 1.35), (cells, 2.0)):
        (_, zoom), *_ = re.findall(r"translate\((.*?)\) scale\((.*?)\)", svg)
        assert float(zoom) * times * 100 == pytest.approx(per_px * min(100 * times, 200), rel=1e-3)


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
