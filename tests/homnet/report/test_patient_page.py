"""The page of a patient: what it says, in which order, and that it needs nothing beside it."""

import re
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from homnet.cohorts.pairs import pair_table, pairs_of
from homnet.imaging.extraction import ExtractionConfig, extract
from homnet.imaging.orientation import turn
from homnet.patients.clonality import estimate_clone
from homnet.patients.finding import CellFinding, Finding
from homnet.patients.pictures import SentPicture
from homnet.patients.verdict import Abstention, PatientVerdict, TypeVerdict
from homnet.report.patient_page import patient_style, render_patient, verdict_sentence
from homnet.simulator.cohort import simulate_person
from homnet.simulator.images import cell_look, draw_pair
from homnet.simulator.laboratory import hospitals


@pytest.fixture(scope="module")
def page(table: pa.Table, verdict: PatientVerdict) -> str:
    """The page of the patient with the deletion."""
    return render_patient(verdict, table, samples_per_px=3.0)


def _uncalibrated(verdict: PatientVerdict) -> PatientVerdict:
    def bare(one: TypeVerdict) -> TypeVerdict:
        finding = one.finding
        if finding is not None:
            cells = tuple(CellFinding(cell.cell_id, cell.band_level) for cell in finding.cells)
            finding = replace(finding, probability=None, cells=cells, kinds={}, stop=None)
        return TypeVerdict(
            one.chromosome, finding, None, flagged=False, clone=None, draft=None,
            not_assessed=("no calibration",),
        )  # fmt: skip

    return replace(
        verdict,
        decision="not_assessed",
        abstentions=(Abstention("not_calibrated", "no threshold for hospital-1"),),
        score=None,
        threshold=None,
        specificity=None,
        supported_specificity=None,
        probability=None,
        prevalence=None,
        types=tuple(map(bare, verdict.types)),
        notes=(),
    )


def test_the_page_stands_alone_and_says_what_it_must(page: str) -> None:
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert "<script" not in page
    assert "style=" not in page
    assert "Research use only. Not for diagnosis" in page
    assert "del(5)(p14) draft, to be confirmed" in page
    # A name never stands without being called a draft.
    assert page.count("del(5)(p14)") == page.count("del(5)(p14) draft, to be confirmed")
    assert "no &lt;second&gt; homolog" in page
    assert "A note &amp; more." in page
    assert "from the tip of the short arm" in page
    assert "to 5p14, 22.0 Mb (19.0 to 27.0 Mb" in page
    for version in ("abc", "def"):
        assert version in page


def test_its_style_is_known_beforehand(page: str, table: pa.Table, verdict: PatientVerdict) -> None:
    other = render_patient(_uncalibrated(verdict), table, samples_per_px=2.5)
    for text in (page, other):
        assert re.findall(r"<style[^>]*>(.*?)</style>", text, re.DOTALL) == [patient_style()]


def test_the_verdict_is_one_sentence(verdict: PatientVerdict) -> None:
    assert verdict_sentence(verdict) == (
        "Structural abnormality suspected on chromosome 5 (del(5)(p14) draft, to be confirmed); "
        "probability 0.81, if 3 % of the laboratory's patients carry one; "
        "not assessed: chromosome X."
    )
    five, seven, missing = verdict.types
    nothing = replace(
        verdict,
        decision="no_abnormality_found",
        probability=0.001,
        types=(replace(five, flagged=False), seven, missing, replace(missing, chromosome="Y")),
    )
    assert verdict_sentence(nothing) == (
        "No structural abnormality found; probability below 0.01, if 3 % of the "
        "laboratory's patients carry one; not assessed: chromosomes X and Y."
    )
    reasons = (Abstention("poor_bands", "1 of 3"), Abstention("too_few_cells", "2 of 23"))
    silent = replace(verdict, decision="not_assessed", abstentions=reasons, probability=0.999)
    assert verdict_sentence(silent) == (
        "Not assessed: poor bands, too few cells; what was seen all the same, a probability of an "
        "abnormality of above 0.99, if 3 % of the laboratory's patients carry one, is no finding."
    )
    assert verdict_sentence(_uncalibrated(verdict)) == "Not assessed: not calibrated."


def test_the_verdict_comes_first_then_the_karyogram_findings_and_evidence(page: str) -> None:
    places = [
        page.index(text)
        for text in (
            '<p class="headline">Structural abnormality suspected on chromosome 5',
            "A note &amp; more.",
            '<h2 id="karyogram"',
            '<h2 id="findings"',
            '<h2 id="evidence"',
            '<section id="type-5" class="type flagged"',
            '<section id="type-7" class="type"',
            '<h2 id="types"',
            '<h2 id="quality"',
        )
    ]
    assert places == sorted(places)


def test_each_type_with_cells_can_be_chosen_in_karyogram_and_table(
    page: str, verdict: PatientVerdict
) -> None:
    num_cells = len(verdict.cells)
    # X is there with one homolog or two, and was not assessed.
    sections = re.findall(r'<section id="type-(\w+)" class="(.*?)"', page)
    assert sections == [("5", "type flagged"), ("7", "type"), ("X", "type")]
    karyogram, table = page.split('<h2 id="findings"')[0], page.split('<h2 id="types"')[1]
    for part in (karyogram, table):
        assert re.findall(r'href="#type-(\w+)"', part) == ["5", "7", "X"]
    names = re.findall(r'href="#type-\w+" aria-label="(.*?)"', karyogram)
    assert re.fullmatch(
        r"Chromosome 5, flagged, the right homolog looks abnormal, to its \d cells", names[0]
    )
    assert re.fullmatch(r"Chromosome 7, to its \d cells", names[1])
    assert re.fullmatch(r"Chromosome X, not assessed, to its \d cells", names[2])
    assert 'class="region"' in karyogram
    assert "▲" in karyogram
    # For those who do not see the picture, each cell is described.
    (words,) = re.findall(r'aria-label="Homologs of chromosome 5: (.*?)"', page)
    assert words.count("abnormal 0.90, right homolog 0.80") == words.count("abnormal") == num_cells
    (words,) = re.findall(r'aria-label="Homologs of chromosome X: (.*?)"', page)
    assert words.count("not compared") == num_cells


def test_what_was_not_read_is_not_called_not_assessed(
    page: str, table: pa.Table, verdict: PatientVerdict
) -> None:
    def kinds(text: str) -> dict[str, list[str]]:
        rows = re.findall(r"<tr.*?</tr>", text.split('<h2 id="types"')[1], re.DOTALL)
        cells = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.DOTALL) for row in rows[1:]]
        return {re.sub(r"<.*?>| .*", "", one[0]): one[-2:] for one in cells}

    assert kinds(page) == {
        "5": ["deletion", ""],
        "7": ["not read", ""],
        "X": ["not assessed", "no &lt;second&gt; homolog"],
    }
    assert "Not read: HomNet sees too little" in page
    unread = replace(verdict, versions={**verdict.versions, "reader": "none"})
    text = render_patient(unread, table, samples_per_px=3.0)
    assert "not read" not in text.lower()
    assert "Kinds were not assessed" in text


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
    assert "is no finding" in page
    assert page.index("is no finding") < page.index("Poor bands: 1 of 3 cells.")
    assert '<h2 id="findings">What was seen, which is no finding</h2>' in page


def test_evidence_and_threshold_are_told_apart(table: pa.Table, verdict: PatientVerdict) -> None:
    near = replace(verdict, decision="no_abnormality_found", score=4.86, threshold=4.94)
    page = render_patient(near, table, samples_per_px=3.0)
    assert "Evidence 4.86; from 4.94 on a patient is called abnormal" in page


def test_a_verdict_without_a_calibration_has_a_page(
    table: pa.Table, verdict: PatientVerdict
) -> None:
    page = render_patient(_uncalibrated(verdict), table, samples_per_px=3.0)
    assert "Not assessed: not calibrated." in page
    assert "No threshold for hospital-1." in page
    assert "Evidence " not in page.split("</header>")[0]
    assert "abnormal 0" not in page
    assert page.count('<section id="type-') == 3


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
    page = render_patient(empty, table.slice(0, 0), samples_per_px=3.0)
    assert "No pair of homologs was sent." in page
    assert 'id="karyogram"' not in page


@pytest.fixture(scope="module")
def pictures(table: pa.Table) -> tuple[pa.Table, dict[tuple[str, str], list[Any]]]:
    """Images of 5, 7 and X, and the pairs that were measured in them.

    The left 5 of each cell lay upside down.
    """
    config = ExtractionConfig(samples_per_px=3.0)
    rows = table.filter(pc.is_in(table["chromosome"], pa.array(["5", "7", "X"])))
    columns = {
        name: rows[name].to_pylist()
        for name in ("hospital", "patient_id", "cell_id", "chromosome", "band_level")
    }
    pair_NPCL = np.zeros_like(pairs_of(rows))
    images, quality = {}, []
    for row, (cell, name) in enumerate(zip(columns["cell_id"], columns["chromosome"], strict=True)):
        draw = np.random.default_rng(row)
        drawn = draw_pair(
            pairs_of(rows)[row], name, 0.95, cell_look(0, "h", cell), samples_per_px=3.0, draw=draw
        )
        sent = [one for one in drawn if one is not None]
        if name == "5":
            sent[0] = sent[0][::-1, ::-1]
        for slot, image_HW in enumerate(sent):
            sequence_CL = extract(image_HW, config).sequence_CL
            assert sequence_CL is not None
            upside_down = name == "5" and slot == 0
            pair_NPCL[row, slot] = turn(sequence_CL[None])[0] if upside_down else sequence_CL
        images[cell, name] = sent
        quality.append({"flags": ["turned"] if name == "5" else []})
    abnormal = [False] * len(quality)
    return pair_table(**columns, pair=pair_NPCL, abnormal=abnormal, quality=quality), images


def test_images_are_shown_instead_of_sequences(
    page: str, verdict: PatientVerdict, pictures: tuple[pa.Table, dict[tuple[str, str], list[Any]]]
) -> None:
    assert 'class="album"' not in page
    assert "Drawn from what was measured along the chromosomes" in page
    table, images = pictures
    shown = render_patient(verdict, table, samples_per_px=3.0, images=images)
    # Each picture is embedded once, and used in its cells and perhaps in the karyogram.
    names = re.findall(r'<image id="([^"]*)"', shown)
    assert len(names) == sum(map(len, images.values())) == shown.count("<image ")
    used = Counter(re.findall(r'<use href="#([^"]*)"', shown))
    assert set(used) == set(names)
    assert set(used.values()) == {1, 2}
    assert "Cut out of the images that were sent; one that still looks upside down" in shown
    assert "drawn from what was measured" not in shown.lower()
    # Upside down is turned back in the picture, not on the page.
    assert "scale(-" not in shown
    assert 'class="region"' in shown


def test_images_are_measured_again_as_they_were_measured(
    verdict: PatientVerdict, pictures: tuple[pa.Table, dict[tuple[str, str], list[Any]]]
) -> None:
    table, images = pictures
    usual, other = (
        render_patient(
            verdict,
            table,
            samples_per_px=3.0,
            images=images,
            extraction=ExtractionConfig(edge_fraction=share),
        )
        for share in (ExtractionConfig().edge_fraction, 0.35)
    )
    assert "drawn from what was measured" not in usual.lower()
    assert "drawn from what was measured" in other.lower()


def test_what_has_no_image_is_drawn_and_said_so(
    verdict: PatientVerdict, pictures: tuple[pa.Table, dict[tuple[str, str], list[Any]]]
) -> None:
    table, images = pictures
    whole = render_patient(verdict, table, samples_per_px=3.0, images=images)
    (cell,) = re.findall(r"Karyogram of cell ([^;]*);", whole)
    less = {key: sent for key, sent in images.items() if key != (cell, "7")}
    less[cell, "5"] = less[cell, "5"][1:]
    shown = render_patient(verdict, table, samples_per_px=3.0, images=less)
    karyogram, cells = shown.split('<h2 id="findings"')
    words = "Without an image, and drawn from what was measured: "
    assert set(re.findall(f"{words}(.*?)\\.", karyogram)[0].split(", ")) == {
        "5 (left)", "7 (left)", "7 (right)",
    }  # fmt: skip
    assert re.findall(f"{words}(.*?)\\.<", cells) == [
        f"{cell} (left)",
        f"{cell} (left), {cell} (right)",
    ]
    # Images of other cells do not make this one a photograph.
    other = {key: sent for key, sent in images.items() if key[0] != cell}
    shown = render_patient(verdict, table, samples_per_px=3.0, images=other)
    karyogram, cells = shown.split('<h2 id="findings"')
    assert "Drawn from what was measured along the chromosomes" in karyogram
    assert f"{words}{cell} (left), {cell} (right).<" in cells


def test_a_patient_of_the_same_name_elsewhere_is_not_drawn(
    page: str, table: pa.Table, verdict: PatientVerdict
) -> None:
    at = table.schema.get_field_index("hospital")
    names = pa.array(["hospital-2"] * table.num_rows, table.schema.field(at).type)
    other = table.set_column(at, table.schema.field(at), names)
    reversed_cells = other.take(np.arange(table.num_rows)[::-1])
    both = pa.concat_tables([table, reversed_cells])
    assert render_patient(verdict, both, samples_per_px=3.0) == page


def test_all_types_of_thirteen_cells_fit_into_a_page(verdict: PatientVerdict) -> None:
    table = simulate_person(3, replace(hospitals()[0], abnormal_fraction=0.0), 4, 13.0)
    rows: dict[str, dict[str, Any]] = {}
    for row in table.to_pylist():
        rows.setdefault(row["chromosome"], {})[row["cell_id"]] = row["band_level"]
    who = table["patient_id"][0].as_py()
    types = tuple(
        TypeVerdict(
            name,
            Finding(
                "hospital-1", who, name, 0.01,
                tuple(CellFinding(cell, level, 0.3) for cell, level in sorted(cells.items())),
            ),
            -3.0,
            flagged=name in {"1", "2"},
            clone=estimate_clone(np.full(len(cells), -0.8)),
            draft=None,
        )
        for name, cells in rows.items()
    )  # fmt: skip
    cells = dict(zip(table["cell_id"].to_pylist(), table["band_level"].to_pylist(), strict=True))
    assert len(cells) == 13
    full = replace(verdict, patient_id=who, types=types, cells=cells)
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        page = render_patient(full, table, samples_per_px=3.0)
        seconds.append(time.process_time() - begin)
    assert page.count('<section id="type-') == len(rows) >= 23
    assert len(page) < 2_000_000
    # It takes 0.4 s; a busy machine may need twice as long.
    assert min(seconds) < 1.0


def test_pictures_with_a_remark_are_listed(table: pa.Table, verdict: PatientVerdict) -> None:
    sent = [
        SentPicture("good.png", "c1"),
        SentPicture("<b>.png", "c2", "the page is blank"),
        SentPicture("left.png", "c3", remarks=("number 7 is left out: it crosses",)),
    ]
    page = render_patient(verdict, table, samples_per_px=3.0, sent=sent)
    assert "good.png" not in page
    assert "&lt;b&gt;.png" in page
    assert "<strong>Not used:</strong> the page is blank" in page
    assert "<div>number 7 is left out: it crosses</div>" in page
    assert "Pictures that were sent" not in render_patient(
        verdict, table, samples_per_px=3.0, sent=sent[:1]
    )
