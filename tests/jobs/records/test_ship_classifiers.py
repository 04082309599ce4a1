"""A classifier in the package is replaced by a whole one, or stays."""

import errno
import runpy
from pathlib import Path

import pytest

from homnet import files
from homnet.cohorts.cohort import Cohort
from homnet.imaging.type_classifier import FILE as TYPES

JOB = runpy.run_path(str(Path(__file__).parents[3] / "jobs" / "records" / "ship_classifiers.py"))


def test_a_full_disk_costs_no_classifier(
    small_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_types", "_levels"):
        monkeypatch.setitem(JOB["main"].__globals__, name, lambda tables: b"new")
    output = tmp_path / "imaging"
    output.mkdir()
    (output / TYPES).write_bytes(b"earlier")
    config = JOB["ShipConfig"](cohort=small_cohort.root, output=output)

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(OSError, match="No space left"):
        JOB["main"](config)
    assert (output / TYPES).read_bytes() == b"earlier"
    monkeypatch.undo()
