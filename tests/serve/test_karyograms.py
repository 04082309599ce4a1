"""Karyograms over HTTP: what is read, what a person corrects, and the same pairs as by the job."""

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from homnet.cohorts.pairs import PAIR_SHAPE, pairs_of
from homnet.imaging.extraction import ExtractionConfig
from homnet.imaging.karyogram import Karyogram, find_chromosomes, read_picture
from homnet.imaging.layouts import Layout
from homnet.imaging.reading import Page
from homnet_platform.ingest import IngestConfig, ingest
from homnet_platform.karyograms import KaryogramConfig
from homnet_serve.archives import ZIP_TYPE
from homnet_serve.config import Limits
from homnet_serve.errors import RequestError
from homnet_serve.karyogram_zips import cells_of_body, open_pictures
from homnet_serve.karyograms import cut_picture, describe_picture, measure_karyograms
from homnet_serve.schemas import DiagnoseResponse, KaryogramsResponse

Maker = Callable[..., bytes]
READ = "/v1/karyograms"
DIAGNOSE = "/v1/diagnose/karyograms"
FIRST = "p1_c1.png"


@pytest.fixture(scope="module", autouse=True)
def read_once() -> Iterator[None]:
    """Remembers what was found on a page: reading is deterministic, and takes a second."""
    known: dict[tuple[bytes, Layout | None], Karyogram] = {}

    def find(page: Page, layout: Layout | None = None) -> Karyogram:
        key = page.grey_HW.tobytes(), layout
        if key not in known:
            known[key] = find_chromosomes(page, layout)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("homnet_serve.karyograms.find_chromosomes", find)
        yield


def blank() -> bytes:
    content = io.BytesIO()
    Image.new("L", (400, 300), 255).save(content, "PNG")
    return content.getvalue()


def post(endpoint: Any, route: str, body: bytes, **parameters: Any) -> Any:
    headers = {"Content-Type": ZIP_TYPE}
    return endpoint.request("POST", route, content=body, headers=headers, params=parameters)


def correcting(zip_of: Maker, files: dict[str, bytes], *corrections: dict[str, Any]) -> bytes:
    listed = [{"picture": FIRST, **one} for one in corrections]
    return zip_of({**files, "corrections.json": json.dumps(listed).encode()})


@pytest.fixture(scope="module")
def read(endpoint: Any, karyograms: dict[str, bytes], zip_of: Maker) -> KaryogramsResponse:
    """What is read on two karyograms and on two pictures that are none."""
    files = {**karyograms, "p1_blank.png": blank(), "p1_text.png": b"no picture"}
    response = post(endpoint, READ, zip_of(files), preview=True)
    assert response.status_code == 200, response.text
    return KaryogramsResponse.model_validate(response.json())


def test_chromosomes_are_said_as_they_are_found(
    read: KaryogramsResponse, karyograms: dict[str, bytes]
) -> None:
    picture = next(one for one in read.pictures if one.picture == FIRST)
    karyogram = find_chromosomes(read_picture(io.BytesIO(karyograms[FIRST])))
    width, height = Image.open(io.BytesIO(karyograms[FIRST])).size
    assert (picture.width, picture.height) == (width, height)
    assert picture.layout == "sex chromosomes last"
    assert len(picture.chromosomes) == len(karyogram.chromosomes) > 40
    for number, (said, one) in enumerate(
        zip(picture.chromosomes, karyogram.chromosomes, strict=True), start=1
    ):
        assert said.number == number
        assert (said.chromosome, said.reason) == (one.chromosome, one.reason)
        assert said.homolog == (None if one.reason else one.homolog)
        x_K, y_K = np.array(said.outline).T
        assert np.allclose([x_K.min(), y_K.max()], [said.box.left, said.box.bottom], atol=8)
        assert said.outline[0] == said.outline[-1]
    preview = Image.open(io.BytesIO(base64.b64decode(picture.preview or "")))
    assert (preview.format, preview.mode, preview.size) == ("JPEG", "L", (width, height))


def test_files_of_a_form_are_read_like_a_zip(
    endpoint: Any, karyograms: dict[str, bytes], read: KaryogramsResponse
) -> None:
    files = [("files", one) for one in karyograms.items()]
    response = endpoint.request("POST", READ, files=files)
    assert response.status_code == 200, response.text
    said = KaryogramsResponse.model_validate(response.json()).pictures
    expected = [one for one in read.pictures if one.picture in karyograms]
    assert [one.chromosomes for one in said] == [one.chromosomes for one in expected]
    patients = endpoint.request("POST", DIAGNOSE, files=files, params={"hospital": "h1"}).json()
    assert [one["verdict"]["patient_id"] for one in patients["patients"]] == ["p1"]


def test_what_is_no_karyogram_has_its_reason(read: KaryogramsResponse) -> None:
    picture = {one.picture: one for one in read.pictures}
    assert picture["p1_blank.png"].reason == "the page is blank"
    assert (picture["p1_blank.png"].width, picture["p1_blank.png"].height) == (400, 300)
    assert picture["p1_blank.png"].preview is not None
    assert "none of PNG" in picture["p1_text.png"].reason
    assert (picture["p1_text.png"].width, picture["p1_text.png"].preview) == (None, None)


@pytest.mark.ray
def test_job_and_endpoint_make_the_same_pairs(
    endpoint: Any,
    karyograms: dict[str, bytes],
    zip_of: Maker,
    ray_cluster: Any,
    tmp_path: Path,
) -> None:
    karyograms = {FIRST: karyograms[FIRST]}
    folder = tmp_path / "karyograms"
    folder.mkdir()
    for name, content in karyograms.items():
        (folder / name).write_bytes(content)
    config = IngestConfig(
        karyograms=folder, karyogram=KaryogramConfig(), output=tmp_path / "mine", hospital="h1"
    )
    table = ingest(config).cohort.read()
    expected = {
        (cell, chromosome): pair_PCL
        for cell, chromosome, pair_PCL in zip(
            table["cell_id"].to_pylist(),
            table["chromosome"].to_pylist(),
            pairs_of(table),
            strict=True,
        )
    }
    response = post(endpoint, DIAGNOSE, zip_of(karyograms), hospital="h1", sequences="all")
    answer = DiagnoseResponse.model_validate(response.json())
    (patient,) = answer.patients
    assert patient.verdict.patient_id == "p1"
    compared = 0
    for kind in patient.evidence:
        for pair in kind.pairs:
            sequence = base64.b64decode(pair.sequence or "")
            pair_PCL = np.frombuffer(sequence, np.uint8).reshape(PAIR_SHAPE)
            np.testing.assert_array_equal(pair_PCL, expected[pair.cell_id, kind.chromosome])
            compared += 1
    assert compared > 19


def test_corrections_change_the_pairs_and_are_said(
    endpoint: Any, karyograms: dict[str, bytes], read: KaryogramsResponse, zip_of: Maker
) -> None:
    chromosomes = next(one for one in read.pictures if one.picture == FIRST).chromosomes
    one, nine = (
        next(c for c in chromosomes if (c.chromosome, c.homolog) == (name, 0)) for name in "19"
    )
    body = correcting(
        zip_of,
        {FIRST: karyograms[FIRST], "p1_blank.png": blank()},
        {"number": one.number, "chromosome": "", "before": "1"},
        {"number": nine.number, "chromosome": "10"},
    )
    audit = endpoint.work / "audit" / endpoint.service.audit.name
    response = post(endpoint, DIAGNOSE, body, hospital="h1", patient_id="anna", pages="all")
    assert response.status_code == 200, response.text
    (patient,) = DiagnoseResponse.model_validate(response.json()).patients
    assert patient.verdict.patient_id == "anna"
    assert {"1", "9"}.isdisjoint(kind.chromosome for kind in patient.evidence)
    said, other = sorted(patient.karyograms, key=lambda one: one.picture, reverse=True)
    assert (said.picture, said.cell_id, said.reason) == (FIRST, "p1_c1", "")
    assert [(c.number, c.before, c.chromosome) for c in said.corrected] == [
        (one.number, "1", ""),
        (nine.number, "9", "10"),
    ]
    left_out = {left.number: left.reason for left in said.left_out}
    assert left_out[one.number] == "a person left it out"
    assert "a further copy" in " ".join(left_out.values())
    assert (other.picture, other.reason) == ("p1_blank.png", "the page is blank")
    assert any("more than two copies" in note for note in patient.verdict.notes)
    assert patient.page is not None
    line = json.loads(audit.read_text().splitlines()[-1])
    assert (line["route"], line["num_pictures"], line["num_corrections"]) == (DIAGNOSE, 2, 2)


@pytest.mark.parametrize(
    ("correction", "said"),
    [
        ({"number": 99, "chromosome": "1"}, "number 99: the picture has 1 to"),
        (
            {"number": 1, "chromosome": "2", "before": "3"},
            "number 1 is read as '1' now, not as '3'",
        ),
        ({"number": 1, "chromosome": "2", "before": ""}, "not as 'left out'"),
        ({"number": 1, "chromosome": "2", "picture": "blank_1.png"}, "cannot be read: the page is"),
    ],
)
def test_corrections_that_do_not_fit_are_refused(
    karyograms: dict[str, bytes], zip_of: Maker, correction: dict[str, Any], said: str
) -> None:
    files = {FIRST: karyograms[FIRST], "blank_1.png": blank()}
    pictures = open_pictures(correcting(zip_of, files, correction), Limits())
    with pytest.raises(RequestError, match=said) as error:
        cut_picture(pictures, correction.get("picture", FIRST), None)
    assert error.value.status == 422


def test_the_same_picture_twice_is_noted(
    endpoint: Any, karyograms: dict[str, bytes], zip_of: Maker
) -> None:
    body = zip_of({FIRST: karyograms[FIRST], "p1_c9.png": karyograms[FIRST]})
    response = post(endpoint, DIAGNOSE, body, hospital="h1")
    (patient,) = DiagnoseResponse.model_validate(response.json()).patients
    first, second = patient.karyograms
    assert first.noted == []
    assert len(second.noted) > 40
    assert second.noted[0].note == "it has the same pixels as another picture"


def test_the_answer_on_one_patient_does_not_name_the_picture_of_another(
    endpoint: Any, karyograms: dict[str, bytes], zip_of: Maker
) -> None:
    body = zip_of({FIRST: karyograms[FIRST], "q2_c9.png": karyograms[FIRST]})
    response = post(endpoint, DIAGNOSE, body, hospital="h1", pages="all")
    (other,) = [one for one in response.json()["patients"] if one["verdict"]["patient_id"] == "q2"]
    assert len(other["karyograms"][0]["noted"]) > 40
    assert "p1_c1" not in json.dumps(other)


def test_a_request_without_a_karyogram_is_refused_and_a_patient_without_one_is_answered(
    endpoint: Any, karyograms: dict[str, bytes], zip_of: Maker
) -> None:
    response = post(endpoint, DIAGNOSE, zip_of({"p1_blank.png": blank()}), hospital="h1")
    assert response.status_code == 422
    assert "'p1_blank.png': the page is blank" in response.json()["message"]
    body = zip_of({FIRST: karyograms[FIRST], "q_1.png": blank()})
    patients = post(endpoint, DIAGNOSE, body, hospital="h1").json()["patients"]
    decisions = {one["verdict"]["patient_id"]: one["verdict"]["decision"] for one in patients}
    assert decisions["q"] == "not_assessed"
    assert len(decisions) == 2


def test_a_page_that_needs_much_enlargement_is_refused(
    karyograms: dict[str, bytes], zip_of: Maker
) -> None:
    pictures = open_pictures(zip_of({FIRST: karyograms[FIRST]}), Limits())
    assert "too small" in cut_picture(pictures, FIRST, px_per_um=1.0).reason


def test_the_layout_of_the_laboratory_is_used(karyograms: dict[str, bytes], zip_of: Maker) -> None:
    rows = [b"1,2,3,4,5", b"6,7,8,9,10,11,12", b"13,14,15,16,17,18", b"19,20,21,22,Y,X"]
    files = {FIRST: karyograms[FIRST], "layout.csv": b"\n".join(rows)}
    about = describe_picture(open_pictures(zip_of(files), Limits()), FIRST, preview=False)
    assert (about.layout, about.preview) == ("layout.csv", None)


def test_nobody_waits_any_more(karyograms: dict[str, bytes], zip_of: Maker) -> None:
    pictures = open_pictures(zip_of({FIRST: karyograms[FIRST]}), Limits())
    cells = cells_of_body(pictures, hospital="h1", patient_id="", band_level=550)
    cut = {FIRST: cut_picture(pictures, FIRST, None)}
    with pytest.raises(RequestError, match="given up"):
        measure_karyograms(cells, cut, {"h1": ExtractionConfig()}, Limits(), stopped=lambda: True)


def test_keys_and_hospitals_are_checked_before_a_picture_is_read(
    endpoint: Any, zip_of: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homnet_serve.service.cut_picture", None)
    for key, hospital, status in (("h1", "h2", 403), ("both", "h-none", 404), ("none", "h1", 403)):
        response = endpoint.request(
            "POST",
            f"{DIAGNOSE}?hospital={hospital}",
            key=key,
            content=zip_of({"p_1.png": b""}),
            headers={"Content-Type": ZIP_TYPE},
        )
        assert response.status_code == status


def test_what_was_read_is_counted_and_recorded(
    start_endpoint: Any,
    tmp_path: Path,
    karyograms: dict[str, bytes],
    zip_of: Maker,
    recorded: Any,
) -> None:
    endpoint = start_endpoint(tmp_path)
    assert post(endpoint, READ, zip_of({"a.png": karyograms[FIRST], "b.png": b""})).is_success
    assert recorded("homnet_karyograms", outcome="read") == 1
    assert recorded("homnet_karyograms", outcome="refused") == 1
    line = json.loads(
        (tmp_path / "audit" / endpoint.service.audit.name).read_text().splitlines()[-1]
    )
    assert (line["route"], line["num_pictures"], line["key"]) == (READ, 2, "both")
    assert "num_patients" not in line
