import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from homnet.errors import ConfigError, DataError
from homnet.results import (
    Record,
    describe_machine,
    package_versions,
    read_json,
    read_result,
    write_result,
)

CLAIM = {
    "claim": "The demo reaches this AUC on held-out people.",
    "figures": {"auc": 0.91, "num_people": 24},
    "recipe": "demo",
    "seed": 7,
}


def test_a_command_names_its_job_without_the_folders_of_a_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/home/me/jobs/homnet/jobs/records/feed.py", "--seed", "1"])
    written = write_result(tmp_path / "feed.json", **CLAIM)
    assert written["command"] == "python jobs/records/feed.py --seed 1"


def test_result_comes_back_with_versions_machine_and_date(tmp_path: Path) -> None:
    path = tmp_path / "results" / "evaluate-demo.json"
    written = write_result(path, **CLAIM)
    assert read_result(path) == written
    assert {name: written[name] for name in CLAIM} == CLAIM
    assert written["command"] == shlex.join(["python", *sys.argv])
    assert written["packages"]["numpy"] == np.__version__
    assert written["packages"] == package_versions()
    assert written["machine"] == describe_machine()
    assert written["machine"]["num_cores"] >= 1
    assert written["machine"]["memory_gib"] > 0
    assert written["date"].endswith("+00:00")


def test_failed_write_keeps_the_earlier_result_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_result(path, **CLAIM)
    before = path.read_text()
    for bad in (float("nan"), object(), np.float32(1)):
        with pytest.raises(DataError, match="cannot be stored as JSON"):
            write_result(path, **{**CLAIM, "figures": {"auc": bad}})
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_interrupted_write_keeps_the_earlier_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_result(path, **CLAIM)
    before = path.read_text()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_result(path, **{**CLAIM, "seed": 8})
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_empty_claim_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs a claim"):
        write_result(tmp_path / "a.json", **{**CLAIM, "claim": " "})


def test_unreadable_results_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(DataError, match="no such file"):
        read_result(path)
    path.write_text('{"claim": ')
    with pytest.raises(DataError, match="not a JSON file"):
        read_result(path)
    path.write_text("[1]")
    with pytest.raises(DataError, match="found list"):
        read_json(path)
    result = write_result(path, **CLAIM)
    del result["recipe"]
    path.write_text(json.dumps(result))
    with pytest.raises(DataError, match="has no 'recipe'"):
        read_result(path)


def test_a_record_is_written_where_it_is_wanted(tmp_path: Path) -> None:
    Record().write({"auc": 0.9}, recipe="demo", seed=1)
    assert list(tmp_path.iterdir()) == []
    Record("It finds them.", tmp_path / "a.json").write({"auc": 0.9}, recipe="demo", seed=1)
    written = read_result(tmp_path / "a.json")
    assert (written["claim"], written["figures"]) == ("It finds them.", {"auc": 0.9})


@pytest.mark.parametrize("half", [{"claim": "It finds them."}, {"file": Path("a.json")}])
def test_half_a_record_is_refused(half: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"--record\.claim and --record\.file"):
        Record(**half)
