"""One verdict: batch job, endpoint and download say the same of a patient, field by field."""

import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from PIL import Image

from homnet.bags.assessment import assess
from homnet.calibration.likelihood_ratios import Scale
from homnet.calibration.patients import PatientCalibration
from homnet.cohorts.cohort import write_cohort
from homnet.cohorts.pairs import MEASURED, PAIR_BYTES, pairs_of
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import best_form
from homnet.model.predictor import Predictor
from homnet.patients.diagnostician import Diagnostician
from homnet.patients.diagnostician import diagnose as diagnose_patients
from homnet.patients.scores import score_patients
from homnet.reader.network import ReaderConfig
from homnet.reader.reading import CalibratedReader
from homnet_platform.patients.diagnosis import DiagnoseConfig, diagnose
from homnet_platform.simulate import SimulateConfig, simulate
from homnet_serve.records.steady_clients import difference

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
TOLERANCE = 1e-5
HOSPITALS = ("h1", "h2", "h3", "hospital-1")


@pytest.fixture(scope="module")
def trained(
    family: Callable[..., list[Checkpoint]],
    table_of: Callable[..., pa.Table],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path]:
    """A model that is calibrated with a reader for two hospitals, without for one; and the reader.

    Not for ``h3``. A quarter of the types or so is read.
    """
    torch.manual_seed(3)
    form = replace(best_form(), width=16, pair_width=24, num_heads=2)
    above = ReaderConfig(model=form, width=16)
    reader = above.build()
    metrics = {"calibration": {"kind": 1.0, "segment": 1.0, "cell": 1.0}}
    work = tmp_path_factory.mktemp("trained")
    read = Checkpoint(above, reader.state_dict(), metrics=metrics)
    (like,) = family(1)
    model = Checkpoint(form, reader.homnet.state_dict())
    own = _spread(model, CalibratedReader.of_checkpoint(read), like.patients["h1"], table_of)
    plain = replace(own, hospitals=("h2",), reader="none", read_from=None, unread_evidence=0.0)
    patients = {"h1": own, "h2": plain, "hospital-1": own}
    return replace(model, patients=patients).save(work / "model"), read.save(work / "reader")


def _spread(
    model: Checkpoint,
    reader: CalibratedReader,
    like: PatientCalibration,
    table_of: Callable[..., pa.Table],
) -> PatientCalibration:
    """A calibration that makes some types and patients of a random model stand out."""
    people = _people(table_of).filter(pc.equal(_people(table_of)["hospital"], "h1"))
    predictor = Predictor.of_checkpoint(model)
    assessment = assess(people)
    scores = score_patients(assessment, predictor.evidence(assessment.bags))

    def scale(logits: Any, low: float) -> Scale:
        factor = float(2 / np.std(logits))
        return Scale(factor, low - factor * float(np.mean(logits)))

    found = replace(
        like,
        hospitals=("h1",),
        min_cells=2,
        type_scale=scale(scores.logit_G, -1.0),
        cell_scale=scale(scores.logit_N, 1.0),
        reader=reader.version,
        read_weight=0.01,
        read_from=float(np.quantile(scores.logit_G, 0.6)),
        unread_evidence=-2.0,
    )
    judge = Diagnostician(replace(model, patients={"h1": found}), reader=reader.version)
    verdicts = diagnose_patients(judge, predictor, people, reader)
    return replace(found, threshold=float(np.median([v.score for v in verdicts if v.score])))


@pytest.fixture(scope="module")
def serving(start_endpoint: Any, trained: tuple[Path, Path], tmp_path_factory: Any) -> Any:
    """An endpoint on that model."""
    model, reader = trained
    return start_endpoint(
        tmp_path_factory.mktemp("serving"),
        checkpoints=dict.fromkeys(HOSPITALS, Checkpoint.load(model)),
        findings=str(reader),
    )


def _people(table_of: Callable[..., pa.Table]) -> pa.Table:
    """Mixed hospitals, one to thirty cells, a male, missing types and homologs."""
    everything = CHROMOSOMES[:23]
    parts = [
        table_of("h1", num_patients=3, num_cells=5, chromosomes=everything, seed=1),
        _named(table_of("h1", num_patients=1, num_cells=30, chromosomes=everything, seed=2), "b"),
        _named(table_of("h1", num_patients=1, num_cells=1, chromosomes=everything, seed=3), "c"),
        _named(table_of("h1", num_patients=1, num_cells=13, chromosomes=("5", "9"), seed=4), "d"),
        _named(_male(table_of("h1", num_patients=1, num_cells=6, chromosomes=CHROMOSOMES)), "e"),
        table_of("h2", num_patients=2, num_cells=12, chromosomes=everything, seed=5),
        table_of("h3", num_patients=1, num_cells=4, chromosomes=everything, seed=6),
    ]
    return _with_third_copies(pa.concat_tables(parts))


def _with_third_copies(table: pa.Table) -> pa.Table:
    """Three copies of 21 in the first three cells of everybody."""
    quality = [
        {"flags": ["third_copy"] if name == "21" and cell in {"c0", "c1", "c2"} else []}
        for name, cell in zip(
            table["chromosome"].to_pylist(), table["cell_id"].to_pylist(), strict=True
        )
    ]
    column = table.schema.get_field_index("quality")
    field = table.schema.field(column)
    return table.set_column(column, field, pa.array(quality, field.type))


def _sent(table: pa.Table) -> pa.Table:
    """What a client sends of a cohort's rows."""
    copies = [3 if "third_copy" in one["flags"] else None for one in table["quality"].to_pylist()]
    return table.select(MEASURED.names).append_column("num_copies", pa.array(copies, pa.int8()))


def _named(table: pa.Table, name: str) -> pa.Table:
    names = pa.array([f"{name}-{one}" for one in table["patient_id"].to_pylist()], pa.string())
    column = table.schema.get_field_index("patient_id")
    return table.set_column(column, table.schema.field(column), names)


def _male(table: pa.Table) -> pa.Table:
    pair = pairs_of(table).copy()
    for row, (name, cell) in enumerate(
        zip(table["chromosome"].to_pylist(), table["cell_id"].to_pylist(), strict=True)
    ):
        # No second X or Y, and one cell lost a homolog of chromosome 7.
        if name in {"X", "Y"} or (name, cell) == ("7", "c0"):
            pair[row, 1] = 0
    column = table.schema.get_field_index("pair")
    packed = pa.array([one.tobytes() for one in pair], pa.binary(PAIR_BYTES))
    return table.set_column(column, table.schema.field(column), packed)


def _in_batch(output: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in (output / "patients").rglob("*.json"):
        verdict = json.loads(path.read_text())
        found[verdict["patient_id"]] = verdict
    return found


def _compare(expected: dict[str, dict[str, Any]], answer: Any) -> None:
    assert answer.status_code == 200, answer.text
    found = {one["verdict"]["patient_id"]: one["verdict"] for one in answer.json()["patients"]}
    assert set(found) == set(expected)
    for name, verdict in expected.items():
        assert not difference(verdict, found[name], TOLERANCE), name


@pytest.fixture(scope="module")
def batch(
    table_of: Callable[..., pa.Table],
    trained: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
    ray_cluster: None,
) -> tuple[pa.Table, Path]:
    """The people, and the output of the batch job on them."""
    work = tmp_path_factory.mktemp("batch")
    people = _people(table_of)
    tables = [people.filter(pc.equal(people["hospital"], name)) for name in ("h1", "h2", "h3")]
    write_cohort(
        work / "cohort", tables, scale=dict.fromkeys(("h1", "h2", "h3"), 3.0), provenance={}
    )
    model, reader = trained
    output = diagnose(
        DiagnoseConfig(
            cohort=str(work / "cohort"),
            checkpoint=str(model),
            findings=str(reader),
            output=str(work / "out"),
        )
    )
    return people, output


def test_all_kinds_of_verdicts_are_among_them(batch: tuple[pa.Table, Path]) -> None:
    verdicts = _in_batch(batch[1])
    assert {one["decision"] for one in verdicts.values()} == {
        "abnormal",
        "no_abnormality_found",
        "not_assessed",
    }
    assert [one["code"] for one in verdicts["h3-p0"]["abstentions"]] == ["not_calibrated"]
    types = [kind for one in verdicts.values() for kind in one["types"] if kind["finding"]]
    read = [bool(kind["finding"]["kinds"]) for kind in types]
    assert 0 < sum(read) < len(read)
    assert sum(kind["flagged"] for kind in types) < sum(read)
    assert any(kind["flagged"] for kind in types)


@pytest.mark.parametrize("form", ["arrow", "json", "one by one"])
def test_pairs_get_the_verdict_of_the_batch_job(
    batch: tuple[pa.Table, Path],
    serving: Any,
    stream_of: Callable[..., bytes],
    json_of: Callable[..., dict[str, Any]],
    form: str,
) -> None:
    people, output = batch
    pairs, expected = _sent(people), _in_batch(output)
    for name in ("h1-p0", "h2-p0", "h3-p0"):  # the last without a calibration
        assert "Chromosome 21 has more than two copies in 3 of" in " ".join(expected[name]["notes"])
    if form == "arrow":
        _compare(expected, serving.arrow(stream_of(pairs)))
    elif form == "json":
        _compare(expected, serving.request("POST", "/v1/diagnose", json=json_of(pairs)))
    else:
        for name, verdict in expected.items():
            own = pairs.filter(pc.equal(pairs["patient_id"], name))
            _compare({name: verdict}, serving.arrow(stream_of(own)))


def test_pages_are_those_of_the_batch_job(
    batch: tuple[pa.Table, Path], serving: Any, stream_of: Callable[..., bytes]
) -> None:
    people, output = batch
    pairs = _sent(people)
    some = sorted(set(pairs["patient_id"].to_pylist()))[::2]
    body = stream_of(pairs.filter(pc.is_in(pairs["patient_id"], pa.array(some))))
    answer = serving.arrow(body, params={"pages": "all", "samples_per_px": 3.0}).json()
    for one in answer["patients"]:
        who = one["verdict"]
        page = output / "patients" / who["hospital"] / f"{who['patient_id']}.html"
        # Pictures and words are the same; numbers may differ in the last digit.
        assert _with_hidden_numbers(one["page"]) == _with_hidden_numbers(page.read_text())


def _with_hidden_numbers(page: str) -> str:
    # Of shares too: those without decimals may have some when the last digit differs.
    return re.sub(r"-?\d+\.\d+|\d+(?= %)", "#", page)


@pytest.mark.slow
def test_drawn_images_get_the_verdict_of_the_batch_job(
    trained: tuple[Path, Path], serving: Any, tmp_path: Path
) -> None:
    simulate(
        SimulateConfig(
            output=tmp_path / "cohort",
            images=tmp_path / "images",
            num_healthy=0,
            num_patients=(2, 0, 0, 0),
            patient_cells=3.0,
            num_files=1,
        )
    )
    model, reader = trained
    manifest = tmp_path / "images" / "manifest.csv"
    # A third copy of chromosome 21 in every cell with two.
    rows = pd.read_csv(manifest, dtype=str)
    more = rows[(rows["chromosome"] == "21") & (rows["homolog"] == "1")].assign(homolog="2")
    for name in more["path"]:
        image = tmp_path / "images" / name
        shutil.copy(image, image.with_stem(f"{image.stem}-third"))
    more["path"] = [str(Path(n).with_stem(f"{Path(n).stem}-third")) for n in more["path"]]
    pd.concat([rows, more]).to_csv(manifest, index=False)
    # A chromosome 9 of every cell lies upside down.
    for name in rows["path"][(rows["chromosome"] == "9") & (rows["homolog"] == "1")]:
        with Image.open(tmp_path / "images" / name) as image:
            image.rotate(180).save(tmp_path / "images" / name)
    output = diagnose(
        DiagnoseConfig(
            manifest=manifest,
            checkpoint=str(model),
            findings=str(reader),
            output=str(tmp_path / "out"),
        )
    )
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted((tmp_path / "images").rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(tmp_path / "images").as_posix())
    answer = serving.request(
        "POST",
        "/v1/diagnose/images",
        content=content.getvalue(),
        headers={"Content-Type": "application/zip"},
        params={"pages": "all"},
    )
    expected = _in_batch(output)
    for one in expected.values():
        notes = " ".join(one["notes"])
        assert "more than two copies" in notes
        assert "were upside down and were turned" in notes
        assert one["quality"]["turned"]["9"] > 0
    _compare(expected, answer)
    for one in answer.json()["patients"]:
        who = one["verdict"]
        page = output / "patients" / who["hospital"] / f"{who['patient_id']}.html"
        # Album and places: the same chromosomes stand at the same places, turned alike.
        photographs = "<(?:image id|use href)=[^>]*>"
        assert re.findall(photographs, one["page"]) == re.findall(photographs, page.read_text())
        images = re.findall('<image id=[^>]*"data:image/webp[^>]*>', one["page"])
        assert "drawn from what was measured" not in one["page"].lower()
        pairs = sum(len(cells["pairs"]) for cells in one["evidence"])
        assert 2 * pairs <= len(images) <= 2 * pairs + 3 * 3
