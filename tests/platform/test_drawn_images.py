"""Two outputs of one model: reading the images of simulated people gives their rows back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.pairs import SINGLE_HOMOLOG, pairs_of
from homnet.errors import CohortError
from homnet.imaging.manifest import read_manifest
from homnet_platform.drawn_images import draw_images
from homnet_platform.ingest import IngestConfig, ingest
from homnet_platform.simulate import SimulateConfig, simulate

KEYS = ["hospital", "patient_id", "cell_id", "chromosome"]
# One healthy person and one patient, who is abnormal and seen where chromosomes are short: those
# that nearly fill the 512 positions may be read as too long.
TWO_PEOPLE = SimulateConfig(
    output=Path("cohort"),
    seed=3,
    num_healthy=1,
    num_patients=(0, 0, 1, 0),
    healthy_cells=1.0,
    patient_cells=2.0,
    abnormal_fraction=1.0,
)


@pytest.fixture(scope="module")
def simulated(ray_cluster, tmp_path_factory) -> tuple[Cohort, Path]:
    """A cohort and the directory of its images."""
    folder = tmp_path_factory.mktemp("simulated")
    images = folder / "images"
    return simulate(replace(TWO_PEOPLE, output=folder / "cohort", images=images)), images


@pytest.mark.ray
def test_ingest_of_the_images_gives_the_cohort_back(simulated, tmp_path):
    cohort, images = simulated
    config = IngestConfig(manifest=images / "manifest.csv", output=tmp_path / "read")
    summary = ingest(config)
    assert summary.num_left_out == 0
    order = [(key, "ascending") for key in KEYS]
    truth, read = (one.read().sort_by(order) for one in (cohort, summary.cohort))
    for column in (*KEYS, "band_level", "abnormal", "kind"):
        assert truth[column].to_pylist() == read[column].to_pylist(), column
    assert any(truth["abnormal"].to_pylist())

    single, read_single = (
        [SINGLE_HOMOLOG in quality["flags"] for quality in table["quality"].to_pylist()]
        for table in (truth, read)
    )
    assert single == read_single
    assert any(single)
    # The one homolog of a pair has lost its number when its partner is missing.
    whole = pa.array([not alone for alone in single])
    assert truth["homolog"].filter(whole).to_pylist() == read["homolog"].filter(whole).to_pylist()

    correlations, ratios = [], []
    for one_PCL, other_PCL in zip(pairs_of(truth), pairs_of(read), strict=True):
        np.testing.assert_array_equal(one_PCL.any(axis=(1, 2)), other_PCL.any(axis=(1, 2)))
        for one_CL, other_CL in zip(one_PCL, other_PCL, strict=True):
            num_one, num_other = (int((s[0] > 0).sum()) for s in (one_CL, other_CL))
            if num_one:
                both = min(num_one, num_other)
                correlations += [
                    np.corrcoef(one_CL[chromatid, :both], other_CL[chromatid, :both])[0, 1]
                    for chromatid in range(2)
                ]
                ratios.append(num_other / num_one)
    assert np.median(correlations) > 0.9
    assert np.median(ratios) == pytest.approx(1.0, abs=0.02)
    assert np.abs(np.log(ratios)).max() < 0.2
    straight, measured = (
        np.array([quality["straightness"] for quality in table["quality"].to_pylist()])
        for table in (truth, read)
    )
    assert np.median(np.abs(straight - measured)) < 0.02


@pytest.mark.ray
def test_the_manifest_lists_every_image_and_nothing_else_is_there(simulated):
    _, images = simulated
    manifest = read_manifest(images / "manifest.csv", hospital="none", band_level=300)
    files = {str(path.relative_to(images)) for path in images.rglob("*") if path.is_file()}
    assert files == {*manifest["path"], "manifest.csv"}
    assert not list(images.parent.glob(".*"))


@pytest.mark.slow
@pytest.mark.ray
def test_an_interrupted_drawing_keeps_its_images(simulated, tmp_path, monkeypatch):
    cohort, images = simulated
    staging = tmp_path / ".again.partial"
    with monkeypatch.context() as patch:
        patch.setattr("homnet.files.Staging.publish", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            draw_images(cohort, tmp_path / "again", seed=TWO_PEOPLE.seed)
    drawn = sorted((staging / "content").rglob("*.png"))
    kept = {path.name: path.stat().st_ino for path in drawn[2:7]}
    for path in drawn[7:]:
        path.unlink()
    draw_images(cohort, tmp_path / "again", seed=TWO_PEOPLE.seed)
    for path in images.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(images)).read_bytes()
    again = [tmp_path / "again" / path.relative_to(staging / "content") for path in drawn[2:7]]
    assert {path.name: path.stat().st_ino for path in again} == kept


def _interrupt(staging: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.ray
def test_images_of_a_finished_cohort_are_added(simulated, tmp_path):
    cohort, images = simulated
    later = replace(TWO_PEOPLE, output=cohort.root, images=tmp_path / "later")
    assert simulate(later).fingerprint == cohort.fingerprint
    one, two = (folder / "manifest.csv" for folder in (images, tmp_path / "later"))
    assert one.read_bytes() == two.read_bytes()
    with pytest.raises(CohortError, match="exists already"):
        simulate(later)
    with pytest.raises(CohortError, match="exists already"):
        simulate(replace(later, seed=4, images=tmp_path / "other"))
