"""Drill of the endpoint: what it compares, and what it counts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from homnet.errors import ConfigError, DataError
from homnet_serve.records.drill import DrillConfig, _figures, _flood, _known, drill
from homnet_serve.records.material import Material, MaterialConfig, altered
from homnet_serve.records.steady_clients import Tally


def test_a_drill_needs_models_that_differ(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = altered(material.checkpoints["h1"], 1000).digest
    known = _known(material, {"h1": version})
    assert [set(one.verdicts) for one in known] == [
        {material.checkpoints["h1"].digest, version},
        {material.checkpoints["h2"].digest},
    ]
    same = replace(material, tables=[material.tables[0]] * 2)
    with pytest.raises(DataError, match="nothing would show"):
        _known(same, {})
    # The second version has the weights of the first.
    checkpoint = material.checkpoints["h1"]
    monkeypatch.setattr("homnet_serve.records.drill.altered", lambda one, _: one)
    with pytest.raises(DataError, match="nothing would show"):
        _known(material, {"h1": "another"})
    uncalibrated = replace(checkpoint, patients={})
    with pytest.raises(DataError, match="nothing would show"):
        _known(replace(material, checkpoints=dict.fromkeys(("h1", "h2"), uncalibrated)), {})


def test_a_drill_knows_what_the_readers_say(read_material: Material) -> None:
    first = next(iter(read_material.checkpoints))
    (version,) = read_material.readers
    known = _known(read_material, {first: "second"})
    assert [len(one.verdicts) for one in known] == [2, 1, 2, 1, 2]
    readers = {
        kind["finding"]["reader"]
        for one in known
        for verdict in one.verdicts.values()
        for kind in verdict["types"]
        if kind["finding"]
    }
    assert readers == {None, version}


def test_figures_of_a_fault() -> None:
    tally = Tally(right=3, answered_s=[10.5, 11.0, 15.0], seconds=[0.1, 0.2, 4.2])
    tally.absorbed.update(["503", "503", "ReadError"])
    figures = _figures(tally, Tally(lost=1, reasons=["x"], seconds=[0.3]), 10.0, 16.0)
    assert figures["seconds_without_answer"] == 4.0
    assert figures["slowest_answer_s"] == 4.2
    assert figures["slowest_calm_answer_s"] == 0.3
    assert figures["absorbed"] == {"503": 2, "ReadError": 1}
    assert (figures["lost"], figures["reasons"]) == (1, ["x"])
    assert np.isfinite(_figures(Tally(), Tally(), 0, 1)["seconds_without_answer"])


def test_a_flood_counts_every_request(
    address: tuple[str, dict[str, str]], material: Material
) -> None:
    url, keys = address
    assert _flood(url, keys["both"], material.tables[0], 12) == {"answered": 12}
    assert _flood(url, "wrong", material.tables[0], 9) == {"401 unauthorized": 9}
    with pytest.raises(ConfigError, match="holds the registry"):
        drill(DrillConfig(MaterialConfig(registry="runs/a/registry"), work=Path("runs/a")))
