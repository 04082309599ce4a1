"""Material of load tests: bodies that say the same, models that differ as they should."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from homnet.calibration.patients import ALL_HOSPITALS
from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.cohorts.pairs import MEASURED
from homnet.errors import CohortError, ConfigError
from homnet_serve.bodies import ARROW_TYPE, JSON_TYPE, read_pairs_of_body
from homnet_serve.config import Limits
from homnet_serve.records.material import (
    Material,
    MaterialConfig,
    make_material,
    verdict_of,
)


def test_bodies_say_the_same(material: Material) -> None:
    for form, media_type in (("arrow", ARROW_TYPE), ("json", JSON_TYPE)):
        for question, table in zip(material.bodies(form), material.tables, strict=True):  # type: ignore[arg-type]
            assert question.media_type == media_type
            assert read_pairs_of_body(question.content, media_type, Limits()) == table


def test_random_and_promoted_models(material: Material, tmp_path: Path) -> None:
    config = MaterialConfig(num_hospitals=3, num_patients=4, num_cells=1, seed=5, findings=False)
    made = make_material(config)
    assert made.hospital_of == ["hospital-1", "hospital-2", "hospital-3", "hospital-1"]
    assert {len(table) for table in made.tables} == {23}
    assert len({c.digest for c in made.checkpoints.values()}) == 3
    assert made.readers == {}
    _, settings = material.publish(tmp_path)
    again = make_material(MaterialConfig(registry=settings["registry"]))
    assert {h: c.digest for h, c in again.checkpoints.items()} == {
        h: c.digest for h, c in material.checkpoints.items()
    }
    with pytest.raises(ConfigError, match="no model is promoted"):
        make_material(MaterialConfig(registry=str(tmp_path / "none")))


def test_random_models_name_a_reader_that_reads_a_fifth(
    read_material: Material, tmp_path: Path
) -> None:
    (version,) = read_material.readers
    assert {c.patients[ALL_HOSPITALS].reader for c in read_material.checkpoints.values()} == {
        version
    }
    verdicts = [
        verdict_of(checkpoint, read_material.reader_of(checkpoint), table)
        for checkpoint in read_material.checkpoints.values()
        for table in read_material.tables
    ]
    assert {verdict["versions"]["reader"] for verdict in verdicts} == {version}
    by_reader = [kind["finding"]["reader"] for one in verdicts for kind in one["types"]]
    assert np.mean([one == version for one in by_reader]) == pytest.approx(0.2, abs=0.01)
    abnormal = [bool(verdict["flagged"]) for verdict in verdicts]
    assert abnormal.count(True) == 2
    _, settings = read_material.publish(tmp_path)
    again = make_material(MaterialConfig(registry=settings["registry"], num_patients=2))
    assert {one.version for one in again.readers.values()} == set(again.readers) == {version}
    assert {h: c.digest for h, c in again.checkpoints.items()} == {
        h: c.digest for h, c in read_material.checkpoints.items()
    }
    with pytest.raises(ConfigError, match="set findings to false"):
        MaterialConfig(form="paper")


def test_the_homnet_in_a_reader_is_the_one_below(read_material: Material) -> None:
    (reader,) = read_material.readers.values()
    for checkpoint in read_material.checkpoints.values():
        frozen = [name for name in checkpoint.weights if name.startswith("cms.")]
        assert frozen
        for name in frozen:
            assert reader.weights[f"homnet.{name}"].equal(checkpoint.weights[name])


def test_patients_of_a_cohort(
    material: Material, small_cohort: Cohort, table_of: Callable[..., pa.Table], tmp_path: Path
) -> None:
    _, settings = material.publish(tmp_path / "published")
    config = MaterialConfig(
        registry=settings["registry"], cohort=str(small_cohort.root), num_patients=4
    )
    made = make_material(config)
    who = [table["patient_id"].unique().to_pylist() for table in made.tables]
    assert who == [["h1-p0"], ["h2-p0"], ["h1-p1"], ["h2-p1"]]
    assert made.hospital_of == ["h1", "h2", "h1", "h2"]
    stored = small_cohort.read(columns=MEASURED.names)
    for table in made.tables:
        assert table.schema == MEASURED
        assert table.num_rows == 22 * 4
    assert pa.concat_tables(made.tables[::2]).equals(stored.slice(0, 2 * 22 * 4).cast(MEASURED))
    one = write_cohort(
        tmp_path / "one",
        [small_cohort.of_hospitals(["h1"]).read()],
        scale={"h1": 3.0},
        provenance={},
    )
    # A registry may have models of hospitals that the cohort lacks; nobody asks them.
    some = make_material(MaterialConfig(registry=settings["registry"], cohort=str(one.root)))
    assert set(some.checkpoints) == set(some.hospital_of) == {"h1"}
    other = write_cohort(tmp_path / "other", [table_of("h9")], scale={"h9": 3.0}, provenance={})
    with pytest.raises(CohortError, match="no hospital"):
        make_material(MaterialConfig(registry=settings["registry"], cohort=str(other.root)))
