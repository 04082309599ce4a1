import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from homnet.cohorts.cohort import Cohort, CohortFile
from homnet.errors import CohortError, ConfigError, DataError
from homnet.files import Staging
from homnet.locations import files_in, to_location
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import Laboratory
from homnet.simulator.laboratory_file import FittedLaboratory, write_laboratory
from homnet_platform.simulate import SimulateConfig, blocks, groups, simulate, staging_of

JOB = Path(__file__).parents[2] / "jobs" / "simulate.py"
SMALL = SimulateConfig(
    output=Path("cohort"),
    seed=7,
    num_healthy=5,
    num_patients=(3, 2, 0, 1),
    healthy_cells=2.0,
    patient_cells=3.0,
    num_files=6,
)


def test_paper_sized_cohort():
    config = SimulateConfig(output=Path("cohort"))
    people = {group.hospital.name: group.num_people for group in groups(config)}
    assert people == {
        "healthy-1": 1581,
        "hospital-1": 24,
        "hospital-2": 27,
        "hospital-3": 30,
        "hospital-4": 21,
    }
    pairs = sum(group.expected_pairs for group in groups(config))
    # Section 0 of the counts: 229,000 healthy pairs and 30,700 of patients.
    assert 235_000 < pairs < 275_000


@pytest.mark.parametrize("num_files", [1, 5, 12, 1000])
def test_blocks_hold_everyone_once(num_files):
    config = replace(SimulateConfig(output=Path("cohort")), num_files=num_files, scale=0.1)
    people = [(group, number) for group, numbers in blocks(config) for number in numbers]
    expected = [(group, n) for group in groups(config) for n in range(group.num_people)]
    assert people == expected


def test_people_who_only_teach_are_smaller_but_the_healthy_are_whole():
    config = SimulateConfig(output=Path("cohort"), abnormal_fraction=0.5, rearranged_types=True)
    pairs = {group.hospital.name: group.expected_pairs for group in groups(config)}
    assert pairs["healthy-1"] == pytest.approx(1581 * 6.0 * 23)
    assert pairs["hospital-1"] == pytest.approx(24 * 13.0 * 2.5)


def test_harmless_inversions_are_as_frequent_everywhere_as_wanted():
    config = SimulateConfig(output=Path("cohort"), variant_inversions=20.0)
    assert {group.hospital.variant_inversions for group in groups(config)} == {20.0}
    assert {
        group.hospital.variant_inversions
        for group in groups(replace(config, variant_inversions=1.0))
    } == {1.0}


def test_no_block_gets_large():
    config = replace(SimulateConfig(output=Path("cohort")), num_files=1, scale=3.0)
    for group, people in blocks(config):
        assert len(people) * group.mean_cells * 23 < 35_000


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"scale": 0.0}, "scale is 0"),
        ({"num_healthy": -1}, "num_healthy is -1"),
        ({"patient_cells": 0.5}, "patient_cells 0.5"),
        ({"num_files": 0}, "num_files is 0"),
        ({"abnormal_fraction": 2.0}, "abnormal_fraction is 2.0"),
    ],
)
def test_bad_settings_are_refused(change, named):
    with pytest.raises(ConfigError, match=named):
        groups(replace(SMALL, **change))


def test_nobody_to_simulate():
    with pytest.raises(ConfigError, match="nobody"):
        simulate(replace(SMALL, num_healthy=0, num_patients=(0, 0, 0, 0)))


def _laboratory_file(path: Path, contrast: float) -> Path:
    write_laboratory(path, FittedLaboratory(Laboratory(contrast=contrast), ("digest",)))
    return path


def test_everyone_gets_the_fitted_laboratory(tmp_path):
    config = replace(SMALL, laboratory=_laboratory_file(tmp_path / "l.json", 33.0))
    fitted, built_in = groups(config), groups(SMALL)
    assert {group.hospital.laboratory for group in fitted} == {Laboratory(contrast=33.0)}
    laboratory = Laboratory()
    assert [replace(group.hospital, laboratory=laboratory) for group in fitted] == [
        replace(group.hospital, laboratory=laboratory) for group in built_in
    ]


@pytest.mark.ray
def test_the_laboratory_is_part_of_what_is_made(ray_cluster, tmp_path, monkeypatch):
    path = _laboratory_file(tmp_path / "l.json", 33.0)
    config = replace(SMALL, output=tmp_path / "cohort", laboratory=path)
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "publish", lambda staging: pytest.fail("interrupted"))
        with pytest.raises(pytest.fail.Exception):
            simulate(config)
    _laboratory_file(path, 44.0)
    with pytest.raises(DataError, match="unfinished work with other settings"):
        simulate(config)
    # The same content elsewhere is the same laboratory.
    elsewhere = _laboratory_file(tmp_path / "copy.json", 33.0)
    cohort = simulate(replace(config, laboratory=elsewhere))
    written = cohort.provenance["settings"]["laboratory"]
    assert written["laboratory"]["contrast"] == 33.0
    assert written["patients"] == ["digest"]


def test_existing_output_is_kept(tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(CohortError, match="exists already"):
        simulate(replace(SMALL, output=tmp_path))
    assert (tmp_path / "kept").read_text() == "mine"


@pytest.mark.ray
def test_pipeline_gives_what_a_loop_gives(ray_cluster, tmp_path):
    cohort = simulate(replace(SMALL, output=tmp_path / "one"))
    looped = pa.concat_tables(
        simulate_person(SMALL.seed, group.hospital, number, group.mean_cells)
        for group in groups(SMALL)
        for number in range(group.num_people)
    )
    keys = [("hospital", "ascending"), ("cell_id", "ascending"), ("chromosome", "ascending")]
    assert cohort.read().sort_by(keys).equals(looped.sort_by(keys))
    assert cohort.hospitals == ("healthy-1", "hospital-1", "hospital-2", "hospital-4")
    assert cohort.num_patients == 11


@pytest.mark.ray
def test_same_seed_gives_the_same_bytes(ray_cluster, tmp_path):
    first, again, other = (
        simulate(replace(SMALL, output=tmp_path / name, seed=seed))
        for name, seed in (("first", 7), ("again", 7), ("other", 8))
    )
    assert first.fingerprint == again.fingerprint != other.fingerprint
    index = "cohort.json"
    assert (tmp_path / "first" / index).read_bytes() == (tmp_path / "again" / index).read_bytes()
    assert Cohort.open(tmp_path / "first").provenance["settings"]["num_healthy"] == 5


def _content(cohort: Cohort) -> dict[str, bytes]:
    return {
        name: (cohort.root / name).read_bytes() for name in files_in(cohort.root, recursive=True)
    }


@pytest.mark.ray
def test_a_bucket_gets_the_bytes_of_a_disk_and_is_resumed(
    ray_cluster, tmp_path, bucket, monkeypatch
):
    local = simulate(replace(SMALL, output=tmp_path / "local"))
    config = replace(SMALL, output=to_location(bucket("cohorts/stored")))
    write = Staging.writing

    def killed_at_the_index(staging, relative):
        if relative == "cohort.json":
            raise KeyboardInterrupt
        return write(staging, relative)

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "writing", killed_at_the_index)
        with pytest.raises(KeyboardInterrupt):
            simulate(config)
    with pytest.raises(CohortError, match="no cohort here"):
        Cohort.open(config.output)
    with pytest.raises(DataError, match="unfinished work with other settings"):
        simulate(replace(config, seed=8))
    before = (config.output / local.files[0].path).system.get_file_info(
        [(config.output / entry.path).key for entry in local.files]
    )
    stored = simulate(config)
    after = stored.root.system.get_file_info(
        [(stored.root / entry.path).key for entry in local.files]
    )
    assert [one.mtime_ns for one in before] == [one.mtime_ns for one in after]
    assert _content(stored) == _content(local)
    with pytest.raises(CohortError, match="exists already"):
        simulate(config)


@pytest.mark.slow
@pytest.mark.ray
def test_one_cpu_gives_the_bytes_of_two(ray_cluster, tmp_path):
    script = f"""
import ray
from pathlib import PosixPath
from homnet.results import Record
from homnet_platform.simulate import SimulateConfig, simulate
ray.init(address="local", num_cpus=1, log_to_driver=False)
simulate({replace(SMALL, output=tmp_path / "one")!r})
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    two = simulate(replace(SMALL, output=tmp_path / "two"))
    assert _content(Cohort.open(tmp_path / "one")) == _content(two)


@pytest.mark.slow
@pytest.mark.ray
def test_a_killed_run_continues_where_it_was(ray_cluster, tmp_path):
    config = SimulateConfig(
        output=tmp_path / "killed", num_healthy=48, num_patients=(0, 0, 0, 0), healthy_cells=3.0
    )
    people = ["--num-healthy", "48", "--num-patients", *"0000", "--healthy-cells", "3"]
    process = subprocess.Popen(
        [sys.executable, str(JOB), "--output", str(config.output), *people],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    staging = staging_of(config)
    while len(list(staging.content.rglob("*.parquet"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not config.output.exists()
    finished = {
        path.relative_to(staging.content): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in staging.content.rglob("*.parquet")
    }
    assert 2 <= len(finished) < len(blocks(config))

    continued = simulate(config)
    for path, before in finished.items():
        now = (config.output / path).stat()
        assert (now.st_ino, now.st_mtime_ns) == before
    undisturbed = simulate(replace(config, output=tmp_path / "undisturbed"))
    assert _content(continued) == _content(undisturbed)
    assert not staging.root.exists()


@pytest.fixture
def unfinished(ray_cluster, tmp_path, monkeypatch) -> SimulateConfig:
    """A run that was interrupted when all files were there and nothing was published."""

    def interrupt(staging: Staging) -> None:
        raise KeyboardInterrupt

    config = replace(SMALL, output=tmp_path / "unfinished")
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "publish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            simulate(config)
    return config


@pytest.mark.ray
def test_a_file_that_was_cut_off_is_made_again(unfinished, tmp_path):
    cut = min(staging_of(unfinished).content.rglob("*.parquet"))
    os.truncate(cut, cut.stat().st_size // 2)
    whole = simulate(replace(SMALL, output=tmp_path / "whole"))
    assert _content(simulate(unfinished)) == _content(whole)


@pytest.mark.ray
def test_unfinished_work_with_other_settings_is_refused(unfinished):
    with pytest.raises(DataError, match="unfinished work with other settings"):
        simulate(replace(unfinished, seed=8))
    assert simulate(unfinished).num_patients == 11


@pytest.mark.ray
def test_files_that_only_workers_see_are_named(ray_cluster, tmp_path, monkeypatch):
    def elsewhere(num_blocks, work, **options):
        entry = CohortFile("hospital=h/pairs-00000.parquet", "h", 1, ("p",), "0")
        return [json.dumps(entry.__dict__)] * num_blocks

    monkeypatch.setattr("homnet_platform.simulate.process_blocks", elsewhere)
    with pytest.raises(CohortError, match=r"pairs-00000\.parquet.*storage that all nodes share"):
        simulate(replace(SMALL, output=tmp_path / "cohort"))


@pytest.mark.ray
def test_storage_that_refuses_is_one_sentence(ray_cluster, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        simulate(replace(SMALL, output=tmp_path / "file" / "cohort"))
