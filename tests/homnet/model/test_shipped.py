"""The model that comes with the package: whole, calibrated with the reader beside it."""

from pathlib import Path

import pyarrow as pa
import pytest

from homnet.calibration.patients import ALL_HOSPITALS
from homnet.model.checkpoint import HASHES, Checkpoint
from homnet.model.predictor import Predictor
from homnet.model.shipped import EXAMPLE, FOLDER, SHIPPED, place_of, reader_beside
from homnet.patients.diagnostician import Diagnostician, diagnose
from homnet.reader.network import ReaderConfig
from homnet.reader.reading import CalibratedReader


def test_the_word_stands_for_it_and_paths_stay_paths(tmp_path: Path) -> None:
    assert place_of(SHIPPED).is_absolute()
    assert place_of(tmp_path / "model") == tmp_path / "model"
    assert place_of("runs/x") == Path.cwd() / "runs" / "x"


@pytest.mark.parametrize("place", [".", "model", "hospital-1/checkpoint"])
def test_a_reader_is_found_where_calibrate_puts_it(tmp_path: Path, place: str) -> None:
    asked = tmp_path / place
    assert reader_beside(asked) is None
    (tmp_path / "reader").mkdir()
    (tmp_path / "reader" / HASHES).write_text("{}")
    assert reader_beside(asked) == tmp_path / "reader"
    assert reader_beside(Path("/nowhere")) is None


def test_it_flags_one_type_of_its_example_and_names_it() -> None:
    checkpoint = Checkpoint.load(place_of(SHIPPED))
    assert {f"hospital-{n}" for n in (1, 2, 3, 4)} | {ALL_HOSPITALS} == set(checkpoint.patients)
    assert all(one.supported for one in checkpoint.patients.values())
    assert {checkpoint.scale_of(name) for name in ("hospital-1", "generic")} == {3.0}
    place = reader_beside(SHIPPED)
    assert place is not None
    reader = CalibratedReader.load(place)
    assert {one.reader for one in checkpoint.patients.values()} == {reader.version}
    with pa.ipc.open_stream(EXAMPLE) as stream:
        table = stream.read_all()
    (verdict,) = diagnose(
        Diagnostician(checkpoint, reader=reader.version),
        Predictor.of_checkpoint(checkpoint),
        table,
        reader,
    )
    (flagged,) = verdict.flagged
    assert verdict.decision == "abnormal"
    assert flagged.draft is not None
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert checkpoint.version[:12] in card
    assert reader.version[:12] in card


def test_nobody_whom_it_learnt_from_set_its_thresholds() -> None:
    model = Checkpoint.load(place_of(SHIPPED)).provenance
    place = reader_beside(SHIPPED)
    assert place is not None
    reader = Checkpoint.load(place, ReaderConfig.of_json).provenance
    calibrated = set(model["calibrated_on"])
    assert calibrated
    for origin in (model, reader):
        assert not calibrated & {*origin["learnt_from"], *origin["validated_on"]}
