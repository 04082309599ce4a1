"""What serves the shipped model: promoted everywhere, a key, an example that is understood."""

from collections.abc import Callable
from pathlib import Path

import pytest

from homnet.cohorts.pairs import MEASURED
from homnet.model.checkpoint import Checkpoint
from homnet.model.registry import Registry
from homnet.model.shipped import SHIPPED, place_of
from homnet_serve.bodies import ARROW_TYPE, read_pairs_of_body
from homnet_serve.config import Limits, ServiceConfig, config_from
from homnet_serve.demo import GENERIC, prepare
from homnet_serve.keys import add_key, check_key, read_keys


def test_models_key_and_example(
    tmp_path: Path,
    family: Callable[..., list[Checkpoint]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (other,) = family(1)
    registry = Registry(tmp_path / "registry")
    registry.promote("hospital-2", registry.publish(other, "hospital-2"))
    shipped = Checkpoint.load(place_of(SHIPPED)).digest
    names = (*(f"hospital-{number}" for number in (1, 2, 3, 4)), GENERIC)
    added = add_key(tmp_path / "keys.json", "lab", ["hospital-1"])
    for _ in range(2):  # again, with the models promoted
        secret, settings, example = prepare(tmp_path)
        config = config_from(ServiceConfig, settings)
        key = check_key(read_keys(Path(config.keys)), f"Bearer {secret}")
        assert set(key.hospitals) == set(names)
        # A key that somebody added stays; the one of the last time opens nothing any more.
        assert check_key(read_keys(Path(config.keys)), f"Bearer {added}").id == "lab"
        assert [one.id for one in read_keys(Path(config.keys))] == ["lab", "demo"]
        lines = Registry(config.registry).lines()
        # What somebody promoted stays.
        assert lines.pop("hospital-2") == (other.digest,)
        assert lines == {name: (shipped,) for name in names if name != "hospital-2"}
        first, *commands = capsys.readouterr().out.splitlines()
        assert first.startswith(f"hospital-2: the model {other.digest[:12]} answers")
        where = f"--registry {tmp_path / 'registry'} --hospital hospital-2"
        assert commands == [
            f"  python jobs/registry.py publish {where} --checkpoint shipped",
            f"  python jobs/registry.py promote {where} --version {shipped[:12]}",
        ]
    pairs = read_pairs_of_body(example.read_bytes(), ARROW_TYPE, Limits())
    assert pairs.schema.names == MEASURED.names
    assert len(set(pairs["patient_id"].to_pylist())) == 1
