"""Material of load tests: bodies that say the same, models that differ as they should."""

from pathlib import Path

import pytest

from homnet.errors import ConfigError
from homnet_serve.bodies import ARROW_TYPE, JSON_TYPE, read_pairs_of_body
from homnet_serve.config import Limits
from homnet_serve.records.material import Material, MaterialConfig, make_material


def test_bodies_say_the_same(material: Material) -> None:
    for form, media_type in (("arrow", ARROW_TYPE), ("json", JSON_TYPE)):
        for question, table in zip(material.bodies(form), material.tables, strict=True):  # type: ignore[arg-type]
            assert question.media_type == media_type
            assert read_pairs_of_body(question.content, media_type, Limits()) == table


def test_random_and_promoted_models(material: Material, tmp_path: Path) -> None:
    made = make_material(MaterialConfig(num_hospitals=3, num_patients=4, num_cells=1, seed=5))
    assert made.hospital_of == ["hospital-1", "hospital-2", "hospital-3", "hospital-1"]
    assert {len(table) for table in made.tables} == {23}
    assert len({c.digest for c in made.checkpoints.values()}) == 3
    _, settings = material.publish(tmp_path)
    again = make_material(MaterialConfig(registry=settings["registry"]))
    assert {h: c.digest for h, c in again.checkpoints.items()} == {
        h: c.digest for h, c in material.checkpoints.items()
    }
    with pytest.raises(ConfigError, match="no model is promoted"):
        make_material(MaterialConfig(registry=str(tmp_path / "none")))
