from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from homnet.cohort import Cohort
from homnet.errors import CohortError, ConfigError
from homnet.simulator.cohort import simulate_person
from homnet_platform.simulate import SimulateConfig, blocks, groups, simulate

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
    people = [
        (block["group"], number)
        for block in blocks(config)
        for number in range(block["first"], block["stop"])
    ]
    expected = [(i, n) for i, group in enumerate(groups(config)) for n in range(group.num_people)]
    assert people == expected


def test_no_block_gets_large():
    config = replace(SimulateConfig(output=Path("cohort")), num_files=1, scale=3.0)
    every = groups(config)
    for block in blocks(config):
        pairs = (block["stop"] - block["first"]) * every[block["group"]].mean_cells * 23
        assert pairs < 35_000


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
