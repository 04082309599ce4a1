"""How good verdicts are: figures, a page and a record, of patients who chose nothing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homnet.errors import ConfigError
from homnet.report.cohort_page import verdicts_markdown
from homnet.results import Record, read_result
from homnet_platform.patients import measurement
from homnet_platform.patients.diagnosis import diagnose
from homnet_platform.patients.measurement import MeasureConfig, measure

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_measuring_leaves_figures_a_page_and_a_record(diagnosed: Any, tmp_path: Path) -> None:
    config = MeasureConfig(
        diagnosis=diagnosed.output,
        cohort=str(diagnosed.cohort.root),
        output=tmp_path,
        num_bootstrap=60,
        record=Record("a test", tmp_path / "result.json"),
    )
    figures = measure(config)
    assert figures["overall"]["num_patients"] == 10
    assert set(figures["hospitals"]) == {"h1", "h2"}
    assert read_result(tmp_path / "result.json")["figures"] == json.loads(json.dumps(figures))
    page = (tmp_path / "index.html").read_text()
    assert "Detection limit" in page
    assert page.count("<table>") == 9
    beside = verdicts_markdown({"one": figures, "other": figures}).splitlines()
    sensitivity = figures["hospitals"]["h2"]["sensitivity"]["value"]
    assert beside[2].split(" | ")[2] == beside[3].split(" | ")[2] == f"{sensitivity:.3f}"
    overlooked = figures["overall"]["sensitivity"]
    assert page.count("<h3>overlooked") == min(4, overlooked["total"] - overlooked["count"])


def test_a_measurement_that_is_killed_leaves_no_mixture(
    diagnosed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = MeasureConfig(
        diagnosis=diagnosed.output,
        cohort=str(diagnosed.cohort.root),
        output=tmp_path,
        num_bootstrap=0,
        num_gallery=0,
    )
    measure(config)
    write = measurement.write_whole

    def killed(path: Path, content: Any) -> None:
        if path.name == "index.html":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(measurement, "write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        measure(config)
    assert [path.name for path in tmp_path.iterdir()] == ["patients.parquet"]


def test_patients_who_chose_anything_are_not_measured(diagnosed: Any, tmp_path: Path) -> None:
    diagnose(
        replace(diagnosed.diagnosis, output=str(tmp_path / "all"), patients="all", pages="none")
    )
    assert not list((tmp_path / "all" / "patients").rglob("*.html"))
    with pytest.raises(ConfigError, match="calibrated on"):
        measure(MeasureConfig(diagnosis=tmp_path / "all", cohort=str(diagnosed.cohort.root)))
    narrowed = diagnose(
        replace(diagnosed.diagnosis, output=str(tmp_path / "h1"), hospitals=("h1",), pages="none")
    )
    own = MeasureConfig(diagnosis=narrowed, cohort=str(diagnosed.cohort.root), num_bootstrap=0)
    assert set(measure(own)["hospitals"]) == {"h1"}
    provenance = json.loads((narrowed / "provenance.json").read_text())
    (narrowed / "provenance.json").write_text(json.dumps({**provenance, "cohort": "x"}))
    with pytest.raises(ConfigError, match="a cohort other than"):
        measure(own)
