"""Reference bags: a model that gives other logits than it once did is found out."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from homnet.errors import CheckpointError, DataError
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNet, HomNetConfig
from homnet.model.predictor import Predictor
from homnet.model.reference_bags import SCHEMA, check_reference_bags, reference_bags
from homnet.model.registry import Registry

TableOf = Callable[..., pa.Table]


@pytest.fixture
def predictor() -> Predictor:
    torch.manual_seed(0)
    return Predictor(HomNet(HomNetConfig(width=8)), {}, version="v")


def test_the_same_model_passes(predictor: Predictor, table_of: TableOf) -> None:
    reference = reference_bags(predictor, table_of(num_patients=3))
    assert reference.schema == SCHEMA
    assert set(reference["patient_id"].to_pylist()) == {"h1-p0"}
    check_reference_bags(predictor, reference)


@pytest.mark.parametrize("change", [0.1, float("nan")])
def test_another_model_fails(predictor: Predictor, table_of: TableOf, change: float) -> None:
    reference = reference_bags(predictor, table_of())
    with torch.no_grad():
        predictor.homnet().bag.bag.bias += change
    with pytest.raises(CheckpointError, match="reference bags: type"):
        check_reference_bags(predictor, reference)


def test_other_tables_are_refused(predictor: Predictor, table_of: TableOf) -> None:
    with pytest.raises(CheckpointError, match="lack a column"):
        check_reference_bags(predictor, table_of())
    with pytest.raises(CheckpointError, match="empty"):
        check_reference_bags(predictor, SCHEMA.empty_table())
    with pytest.raises(DataError, match="both homologs"):
        reference_bags(predictor, table_of().slice(0, 0))


def test_the_registry_keeps_them(predictor: Predictor, table_of: TableOf, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    model = predictor.homnet()
    version = registry.publish(Checkpoint(model.config, model.state_dict()), "h1")
    assert registry.reference_bags(version) is None
    reference = reference_bags(predictor, table_of())
    registry.keep_reference_bags(version, reference)
    assert registry.reference_bags(version).equals(reference)
    (tmp_path / "registry" / "golden" / f"{version}.arrow").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="reference bags"):
        registry.reference_bags(version)
    registry.checkpoint(version)
