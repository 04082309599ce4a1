"""Karyograms show every homolog, and mark what is abnormal."""

from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest

from homnet.patients.verdict import PatientVerdict
from homnet.report.examples import Example, pairs_by_cell
from homnet.report.karyogram import evidence, single_pairs, whole_cell


def test_pictures_are_well_formed_and_show_every_homolog(
    table: pa.Table, verdict: PatientVerdict
) -> None:
    finding = verdict.types[0].finding
    assert finding is not None
    cells = pairs_by_cell(table, verdict.patient_id)
    pairs = {name: cell["5"] for name, cell in cells.items() if "5" in cell}
    svg = evidence(finding, pairs, level=400, samples_per_px=3.0, label="five <5>")
    root = ElementTree.fromstring(svg)
    images = [one for one in root.iter() if one.tag.endswith("image")]
    homologs = sum(int(pair.any(axis=(1, 2)).sum()) for pair in pairs.values())
    assert len(images) == homologs
    texts = [one.text or "" for one in root.iter() if one.tag.endswith("text")]
    assert texts.count("▲") == sum(int(pair[1].any()) for pair in pairs.values())
    assert "p14" in texts
    assert any(text.startswith("abnormal 0.90") for text in texts)
    assert sum("fill-opacity" in one.attrib for one in root.iter()) > 3

    cell = next(iter(cells.values()))
    root = ElementTree.fromstring(
        whole_cell(cell, ["5"], typical_profiles={}, samples_per_px=3.0, label="cell")
    )
    marked = [one.text for one in root.iter() if one.attrib.get("font-weight") == "700"]
    assert marked == ["▸ 5"]
    labels = [one.text for one in root.iter() if one.attrib.get("font-size") == "13"]
    assert labels[:4] == ["1", "2", "3", "4"]
    assert len(labels) >= 23


def _mark(kind: str | None, start: int | None, stop: int | None) -> list[ElementTree.Element]:
    pair = np.zeros((2, 2, 512), np.uint8)
    pair[..., :300] = np.arange(300) % 90 + 60
    one = Example(pair, "north", "7", 550, 3.0, kind, None if kind is None else 1, start, stop)
    root = ElementTree.fromstring(single_pairs([one, one], label="two pairs"))
    assert sum(part.tag.endswith("image") for part in root.iter()) == 4
    words = [part.text for part in root.iter() if part.tag.endswith("text")]
    assert words[:3] == ["north", "chr 7, 550 bands", kind or "normal"]
    return [part for part in root.iter() if part.tag.endswith("rect")]


def test_the_event_of_a_pair_is_marked_where_it_is_known() -> None:
    images_per_sample = 1.35 / 3
    mark = _mark("duplication", 100, 200)[0].attrib
    assert float(mark["y"]) == pytest.approx(46 + 100 * images_per_sample - 1.5, abs=0.06)
    assert float(mark["height"]) == pytest.approx(100 * images_per_sample + 3, abs=0.06)
    # The junction of a deletion is a point, and still to be seen.
    assert float(_mark("deletion", 50, 50)[1].attrib["height"]) == 3.0
    assert _mark("translocation", None, None) == []
    assert _mark(None, None, None) == []
