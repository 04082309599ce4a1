"""Golden bags: a model that gives other logits than it once did is found out."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from homnet.errors import CheckpointError, DataError, RegistryError
from homnet.model.checkpoint import Checkpoint
from homnet.model.joint import JointModel
from homnet.model.network import HomNet, HomNetConfig
from homnet.model.predictor import Predictor
from homnet.model.reference_bags import SCHEMA, check_golden, golden_bags
from homnet.model.registry import Registry

TableOf = Callable[..., pa.Table]


@pytest.fixture
def model() -> JointModel:
    torch.manual_seed(0)
    return JointModel(Predictor(HomNet(HomNetConfig(width=8)), {}, version="v"))


def test_the_same_model_passes(model: JointModel, table_of: TableOf) -> None:
    golden = golden_bags(model, table_of(num_patients=3))
    assert golden.schema == SCHEMA
    assert set(golden["patient_id"].to_pylist()) == {"h1-p0"}
    check_golden(model, golden)


@pytest.mark.parametrize("change", [0.1, float("nan")])
def test_another_model_fails(model: JointModel, table_of: TableOf, change: float) -> None:
    golden = golden_bags(model, table_of())
    with torch.no_grad():
        model.model.bag.bag.bias += change
    with pytest.raises(CheckpointError, match="golden bags: type"):
        check_golden(model, golden)


def test_what_are_no_golden_bags_is_said(model: JointModel, table_of: TableOf) -> None:
    with pytest.raises(CheckpointError, match="lack a column"):
        check_golden(model, table_of())
    with pytest.raises(CheckpointError, match="empty"):
        check_golden(model, SCHEMA.empty_table())
    with pytest.raises(DataError, match="both homologs"):
        golden_bags(model, table_of().slice(0, 0))


def test_the_registry_keeps_them(model: JointModel, table_of: TableOf, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    version = registry.publish(Checkpoint(model.model.config, model.model.state_dict()), "h1")
    assert registry.golden(version) is None
    golden = golden_bags(model, table_of())
    registry.keep_golden(version, golden)
    assert registry.golden(version).equals(golden)
    (tmp_path / "registry" / "golden" / f"{version}.arrow").write_bytes(b"damaged")
    with pytest.raises(RegistryError, match="golden bags"):
        registry.golden(version)
    registry.checkpoint(version)
