import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from homnet.errors import DataError
from homnet.evaluation.metrics import evaluate
from homnet.report.examples import Example
from homnet.report.page import Report, render, write_report
from homnet.report.tables import tables_markdown

VOID = {"img", "meta", "br"}


class Page(HTMLParser):
    """Collects the elements of a page and checks that tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += f" {data.strip()}"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def make_scores(hospitals: tuple[str, ...] = ("north", "south"), sham: bool = True) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    kinds = ["normal", "deletion", "normal", "wrong_pair", "normal"] + ["sham"] * sham
    rows = []
    for hospital in hospitals:
        for i in range(24):
            for kind in kinds:
                abnormal = kind in ("deletion", "wrong_pair")
                rows.append(
                    {
                        "bag": len(rows),
                        "hospital": hospital,
                        "patients": [f"{hospital}-{i}"],
                        "chromosome": "7",
                        "num_pairs": 4,
                        "band_level": 550,
                        "kind": kind,
                        "abnormal": abnormal,
                        "event_fraction": 0.25 if abnormal else None,
                        "size_mb": 25.0 if abnormal else None,
                        "score": float(np.clip(rng.beta(2, 5) + 0.3 * abnormal, 0, 1)),
                        "split": "validation" if i % 4 == 0 else "test",
                    }
                )
    return pd.DataFrame(rows)


def make_report(scores: pd.DataFrame, /, **changes: object) -> Report:
    report = {
        "title": "A <test> & its title",
        "evaluation": evaluate(scores, seed=0, num_bootstrap=60),
        "scores": scores,
    }
    return Report(**{**report, **changes})  # type: ignore[arg-type]


def make_example(length: int, **changes: object) -> Example:
    pair = np.zeros((2, 2, 512), np.uint8)
    pair[..., :length] = np.random.default_rng(length).integers(60, 200, (2, 2, length))
    values = {"pair": pair, "hospital": "north", "chromosome": "7", "band_level": 550}
    values["samples_per_px"] = 3.0
    return Example(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def full() -> Report:
    return make_report(
        make_scores(),
        provenance={
            "recipe": "demo",
            "cohort": "ab12",
            "machine": {"num_cores": 2, "gpu": None},
            "hospitals": ["north", "south"],
        },
        histories={
            "pre-training": [
                {"epoch": 0, "train_loss": 0.7, "validation_auc": 0.81},
                {"epoch": 1, "train_loss": 0.5, "validation_auc": 0.87},
                {"epoch": 2, "train_loss": 0.4, "validation_auc": 0.85},
            ],
            "fine-tuning south": [{"epoch": 0, "train_loss": 0.3, "validation_auc": None}],
        },
        cohort={
            "fingerprint": "cd34",
            "provenance": {"job": "simulate"},
            "hospitals": {
                name: {
                    "num_patients": 24,
                    "num_abnormal_patients": 9,
                    "num_cells": 120,
                    "num_pairs": 2760 + i,
                    "num_abnormal_pairs": 45,
                    "num_single_homolog": {"X": 61, "Y": 60},
                    "band_levels": {"400": 1300, "550": 1460 + i},
                }
                for i, name in enumerate(("north", "south"))
            },
        },
        examples=[
            make_example(140),
            make_example(90, kind="deletion", homolog=1, start=20, stop=20),
        ],
        not_assessed={"single X or Y": 242},
    )


def test_page_is_one_file_without_outside_parts(full: Report, tmp_path: Path) -> None:
    path = write_report(tmp_path / "report", full)
    assert path == tmp_path / "report" / "index.html"
    assert [file.name for file in path.parent.iterdir()] == ["index.html"]
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.all("script")
    assert not page.all("link")
    for _, attributes in page.elements:
        assert str(attributes.get("href", "data:")).startswith("data:")
    for image in page.all("img"):
        assert str(image["src"]).startswith("data:image/")
    assert "url(" not in text
    assert "@import" not in text


def test_every_picture_is_drawn_and_described(full: Report) -> None:
    page = Page(render(full))
    (examples,) = page.all("svg")
    assert "2 pairs" in str(examples["aria-label"])
    images = page.all("img")
    assert len(images) == 6
    for image in images:
        assert len(str(image["alt"])) > 30
        picture = base64.b64decode(str(image["src"]).partition(",")[2])
        assert ElementTree.fromstring(picture).tag.endswith("svg")


def test_tables_are_semantic_and_hold_the_numbers(full: Report) -> None:
    page = Page(render(full))
    assert all("scope" in cell for cell in page.all("th"))
    headline = page.tables[0]
    assert [row[0].strip() for row in headline[1:]] == ["north", "south", "all hospitals"]
    for row, (_, scope) in zip(
        headline[1:],
        [*full.evaluation["hospitals"].items(), ("", full.evaluation["overall"])],
        strict=True,
    ):
        for column, name in ((1, "auc"), (2, "pr_auc"), (4, "f1"), (5, "sensitivity")):
            estimate = scope["metrics"][name]
            assert row[column].split() == [
                f"{estimate['value']:.3f}",
                f"{estimate['low']:.2f}",
                "to",
                f"{estimate['high']:.2f}",
            ]
        assert row[3].strip() == f"{scope['prevalence']:.3f}"
        assert row[6].split()[:2] == [str(scope["num_people"]), str(scope["num_abnormal_people"])]
        assert row[7].split()[:2] == [str(scope["num_bags"]), str(scope["num_abnormal_bags"])]
    kinds = {row[0].strip(): row for row in page.tables[2][1:]}
    assert set(kinds) == {"deletion", "wrong pair", "Mean over kinds"}
    value = full.evaluation["overall"]["kinds"]["wrong_pair"]["auc"]["value"]
    assert kinds["wrong pair"][1].split()[0] == f"{value:.3f}"
    stages = page.tables[-1]
    assert [cell.strip() for cell in stages[1]] == ["pre-training", "3", "2", "0.870", "0.400"]
    assert [cell.strip() for cell in stages[2]] == ["fine-tuning south", "1", "n/a", "n/a", "0.300"]
    assert all(len({len(row) for row in table}) == 1 for table in page.tables)


def test_page_states_use_counts_and_origin(full: Report) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", render(full)))
    seam = full.evaluation["overall"]["seam_control"]
    for sentence in (
        "A &lt;test&gt; &amp; its title",
        "Research use only. Not for diagnosis.",
        "On 36 test people from 2 hospitals",
        "two chromosomes",
        "is 4 pairs of one type from different cells",
        "single X or Y: 242 pairs",
        f"{seam['num_bags']} structurally normal bags were cut and pasted",
        f"{seam['auc']['value']:.3f}",
        "recipe demo",
        "cores 2, gpu none",
        "5,521",
    ):
        assert sentence in text
    assert "Validation: 12 people, 60 bags (24 abnormal), 240 pairs in them." in text
    assert (
        "A specificity of 99 % means not one false call where there are few normal bags: " in text
    )
    assert "north (54), south (54)" in text


def test_same_report_gives_the_same_bytes(full: Report) -> None:
    assert render(full) == render(full)


def test_least_report_renders() -> None:
    scores = make_scores(("north",), sham=False)
    text = render(make_report(scores))
    page = Page(text)
    assert len(page.all("img")) == 5
    assert "all hospitals" not in text
    assert "Seam control" not in text
    assert "did not say what it left out" in text
    assert "No pair was left out" in render(make_report(scores, not_assessed={}))


def test_hospital_of_one_class_and_borrowed_threshold_are_caveats() -> None:
    scores = make_scores(("north", "south"))
    healthy = scores[~((scores["hospital"] == "south") & scores["abnormal"])]
    text = render(make_report(healthy))
    assert "south: the test bags are all normal or all abnormal" in text
    assert "The threshold of north, south comes from all hospitals" in text


def test_pooled_bags_are_a_caveat() -> None:
    scores = make_scores()
    text = render(make_report(scores))
    assert "pool" not in text
    people = {split: list(part["patients"]) for split, part in scores.groupby("split")}
    scores["patients"] = [
        [*row.patients, *people[row.split][(i * 7) % 11]]
        for i, row in enumerate(scores.itertuples())
    ]
    text = render(make_report(scores))
    assert "Here a bag pools pairs of up to 2 people." in text
    assert "Bags that pool several people are no bags of a patient" in text


def test_no_interval_is_shown_where_there_is_none() -> None:
    scores = make_scores()
    report = make_report(scores, evaluation=evaluate(scores, seed=0, num_bootstrap=0))
    headline = Page(render(report)).tables[0]
    assert re.fullmatch(r"0\.\d{3}|1\.000", headline[1][1].strip())
    assert "(0." not in tables_markdown(report.evaluation)


def test_report_of_other_scores_is_refused(tmp_path: Path) -> None:
    scores = make_scores()
    with pytest.raises(DataError, match="two runs"):
        write_report(tmp_path, make_report(scores, scores=scores[~scores["abnormal"]]))
    with pytest.raises(DataError, match="has no 'overall'"):
        write_report(tmp_path, make_report(scores, evaluation={}))
    assert list(tmp_path.iterdir()) == []


def test_markdown_holds_the_numbers(full: Report) -> None:
    headline, kinds, sizes, note = tables_markdown(full.evaluation).strip().split("\n\n")
    assert sizes.splitlines()[2].startswith("| 20 to 40 Mb |")
    overall = full.evaluation["overall"]
    cells = tables_markdown({**full.evaluation, "by_cells": {"4": overall, "7": overall}})
    assert "| Pairs per bag | AUC |" in cells
    assert f"| 4 | {overall['metrics']['auc']['value']:.3f}" in cells
    assert f"| 7 (mean 4.0) | {overall['metrics']['auc']['value']:.3f}" in cells
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in headline.splitlines()]
    assert [row[0] for row in rows] == ["Hospital", "---", "north", "south", "all hospitals"]
    auc = full.evaluation["hospitals"]["south"]["metrics"]["auc"]
    assert rows[3][1] == f"{auc['value']:.3f} ({auc['low']:.2f} to {auc['high']:.2f})"
    assert rows[3][3] == f"{full.evaluation['hospitals']['south']['prevalence']:.3f}"
    assert rows[4][6:] == ["36 (36)", "180 (72)"]
    assert {len(row) for row in rows} == {8}
    names = [line.split("|")[1].strip() for line in kinds.splitlines()]
    assert names[2:] == [
        "deletion",
        "wrong pair",
        "mean over kinds",
        "seam control (sham; 0.5 is ideal)",
    ]
    assert "patient bootstrap" in note
