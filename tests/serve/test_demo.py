"""What serves a demonstration is made out of what jobs/demo.py leaves."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from homnet.cohorts.cohort import write_cohort
from homnet.cohorts.pairs import MEASURED
from homnet.model.checkpoint import Checkpoint
from homnet.model.registry import Registry
from homnet_serve.bodies import ARROW_TYPE, read_pairs_of_body
from homnet_serve.config import Limits, ServiceConfig, config_from
from homnet_serve.demo import prepare
from homnet_serve.keys import check_key, read_keys


def test_models_key_and_example(
    tmp_path: Path, table_of: Callable[..., pa.Table], family: Callable[..., list[Checkpoint]]
) -> None:
    tables = [
        table_of(name, num_cells=2, chromosomes=("1", "21"), abnormal="21") for name in ("h1", "h2")
    ]
    scale = {"h1": 3.0, "h2": 3.0}
    write_cohort(tmp_path / "cohort", tables, scale=scale, provenance={"made by": "test"})
    for hospital, checkpoint in zip(("h1", "h2"), family(2), strict=True):
        checkpoint.save(tmp_path / "fine_tune" / hospital / "checkpoint")
    for _ in range(2):  # again, with the models promoted
        secret, settings, example = prepare(tmp_path)
    config = config_from(ServiceConfig, settings)
    assert check_key(read_keys(Path(config.keys)), f"Bearer {secret}").hospitals == ("h1", "h2")
    registry = Registry(config.registry)
    for hospital, checkpoint in zip(("h1", "h2"), family(2), strict=True):
        assert registry.lines()[hospital] == (checkpoint.digest,)
    pairs = read_pairs_of_body(example.read_bytes(), ARROW_TYPE, Limits())
    assert pairs.schema.names == MEASURED.names
    assert set(pairs["patient_id"].to_pylist()) == {"h1-p0"}
