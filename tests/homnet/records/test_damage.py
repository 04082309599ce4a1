"""Whatever happens to a stored file: one error, never other content, never another hospital."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from homnet.calibration.patients import NO_READER_USED, PatientCalibration
from homnet.cohorts.cohort import Cohort
from homnet.errors import CohortError, HomNetError
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNet, HomNetConfig
from homnet.model.predictor import Predictor
from homnet.model.reference_bags import reference_bags
from homnet.model.registry import Registry
from homnet.records.damage import KINDS, changes

SMALL = HomNetConfig(merge_range=128, width=4, pair_width=6, num_heads=2)


def _contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_every_change_is_undone(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.json").write_text(f'{{"a": {number}}}')
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "model.bin").write_bytes(bytes(range(200)))
    whole = _contents(tmp_path)
    seen = set()
    for change in islice(changes(tmp_path, np.random.default_rng(0)), 200):
        seen.add(change.kind)
        # Overwriting the only file of its kind changes nothing.
        assert _contents(tmp_path) != whole or change.kind in ("overwrite", "swap")
    assert seen == set(KINDS)
    assert _contents(tmp_path) == whole


def test_a_changed_cohort_is_refused_or_reads_the_same(small_cohort: Cohort) -> None:
    whole = small_cohort.read()
    refused = 0
    for change in islice(changes(small_cohort.root, np.random.default_rng(1)), 60):
        try:
            cohort = Cohort.open(small_cohort.root)
            assert cohort.read().equals(whole), change
            assert (cohort.scale, cohort.files) == (small_cohort.scale, small_cohort.files), change
            # A file that nobody names, or one that was overwritten by itself.
            assert change.kind in ("add", "copy", "overwrite", "swap"), change
        except CohortError as error:
            refused += 1
            assert str(small_cohort.root) in str(error)  # noqa: PT017
    assert refused > 30


@pytest.fixture
def registry(
    tmp_path: Path,
    table_of: Callable[..., pa.Table],
    calibration_of: Callable[..., PatientCalibration],
) -> Registry:
    """Two hospitals with a model, reference bags and a reader each."""
    registry = Registry(tmp_path / "registry")
    calibration = calibration_of(hospitals=(), threshold=0.0, min_cells=1)
    for number, hospital in enumerate(("h1", "h2")):
        torch.manual_seed(number)
        reader = Checkpoint(SMALL, HomNet(SMALL).state_dict())
        registry.keep_reader(reader)
        for _ in range(2):
            checkpoint = Checkpoint(
                SMALL,
                HomNet(SMALL).state_dict(),
                provenance={"seed": number},
                patients={hospital: replace(calibration, reader=reader.version)},
            )
            version = registry.publish(checkpoint, hospital)
            table = table_of(hospital, num_patients=1, chromosomes=("1",), seed=number)
            bags = reference_bags(Predictor.of_checkpoint(checkpoint), table)
            registry.keep_reference_bags(version, bags)
            registry.promote(hospital, version)
    return registry


def _answers(registry: Registry) -> dict[str, object]:
    """What an endpoint that starts now would use for each hospital; None where it reports damage.

    Everything that decides an answer is in it: model, calibration, reader and reference bags.
    """
    standing = registry.standing()
    found: dict[str, object] = dict.fromkeys(("h1", "h2", *standing.problems))
    for hospital, line in standing.lines.items():
        try:
            registry.check_beside(line[-1].beside)
            model = registry.checkpoint(line[-1].version)
            readers = {one.reader for one in model.patients.values()} - {NO_READER_USED}
            reader = registry.reader(readers.pop(), HomNetConfig)
            bags = registry.reference_bags(line[-1].version)
            found[hospital] = (model.digest, reader.digest, bags)
        except HomNetError as error:
            assert "\n" not in str(error)  # noqa: PT017
    return found


def test_damage_of_a_registry_stays_with_its_hospital(registry: Registry) -> None:
    root = Path(registry.root)
    whole = _answers(registry)
    assert all(whole.values())
    newest = {one.hospital: one.name for one in registry.standing().decisions}
    lines = registry.standing().lines
    # Parts of the paths of each hospital's files.
    own: dict[str, set[str]] = {
        hospital: {
            f"-{hospital}-",
            *(one.version for one in line),
            *(path.split("/")[1] for one in line for path in one.beside),
        }
        for hospital, line in lines.items()
    }
    in_use = {of: {line[-1].version, *line[-1].beside} for of, line in lines.items()}
    refused = 0
    for change in islice(changes(root, np.random.default_rng(2)), 60):
        touched = " ".join(str(path.relative_to(root)) for path in change.paths)
        hit = {of for of, names in own.items() if any(name in touched for name in names)}
        found = _answers(registry)
        for hospital in ("h1", "h2"):
            if hospital not in hit:
                assert found[hospital] == whole[hospital], change
            elif found[hospital] is None:
                refused += 1
            elif newest[hospital] in touched and not (root / "events" / newest[hospital]).is_file():
                # Nothing names the newest decision: the model before it answers.
                assert registry.lines()[hospital] == (lines[hospital][0].version,), change
            else:
                assert found[hospital] == whole[hospital], change
                # Of the files in use nothing but a stray copy, or an overwriting by itself, passes.
                used = any(name in touched for name in in_use[hospital])
                assert not used or change.kind in ("copy", "overwrite", "swap"), change
    assert refused > 15
    assert _answers(registry) == whole
