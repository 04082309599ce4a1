"""Fixtures: a small cohort that is made, not stored, jobs, and one Ray for the whole session."""

import logging
import multiprocessing
import os
import runpy
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import fs

from homnet.calibration.likelihood_ratios import Scale
from homnet.calibration.patients import PatientCalibration
from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.cohorts.pairs import pair_table, pairs_of
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.seeding import generator

ROOT = Path(__file__).resolve().parents[1]
S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""Access to the S3 server of the tests, which accepts every key."""
PACKAGES = os.pathsep.join(str(ROOT / part) for part in (".", "platform", "baselines", "serve"))


def make_table(
    hospital: str = "h1",
    *,
    num_patients: int = 3,
    num_cells: int = 4,
    chromosomes: tuple[str, ...] = CHROMOSOMES[:22],
    abnormal: str | None = None,
    seed: int = 0,
) -> pa.Table:
    """Pairs with a smooth profile of their own for each type and noise of their own for each cell.

    With ``abnormal`` given, that type is abnormal (its homolog 1 is cut by a third) in every cell
    of every second patient.
    """
    rng = np.random.default_rng(seed)
    keys = [(p, c, t) for p in range(num_patients) for t in chromosomes for c in range(num_cells)]
    pair = np.zeros((len(keys), 2, 2, 512), np.uint8)
    labels = []
    for row, (patient, _, chromosome) in enumerate(keys):
        number = CHROMOSOMES.index(chromosome)
        is_abnormal = chromosome == abnormal and patient % 2 == 0
        labels.append(is_abnormal)
        for homolog in range(2):
            length = 220 - 6 * number + int(rng.integers(-4, 5))
            if is_abnormal and homolog == 1:
                length = length * 2 // 3
            wave = 120 + 60 * np.sin(np.arange(length) / (5 + number) + number)
            noisy = wave + rng.normal(0, 5, (2, length))
            pair[row, homolog, :, :length] = noisy.clip(1, 255)
    return pair_table(
        hospital=[hospital] * len(keys),
        patient_id=[f"{hospital}-p{p}" for p, _, _ in keys],
        cell_id=[f"c{c}" for _, c, _ in keys],
        chromosome=[t for _, _, t in keys],
        band_level=[550 if c % 2 else 400 for _, c, _ in keys],
        pair=pair,
        abnormal=labels,
        kind=["deletion" if label else None for label in labels],
        homolog=[1 if label else None for label in labels],
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Gives all tests that share the local Ray to one process, which begins with them.

    Ray starts once then, and so do the trainings that several files share; all jobs are forked from
    one process. Slow tests are long and share little.
    """
    for item in items:
        if _shares(item, "ray_cluster"):
            item.add_marker(pytest.mark.xdist_group("ray"))
        elif _shares(item, "imported"):
            item.add_marker(pytest.mark.xdist_group("jobs"))
        group = item.get_closest_marker("xdist_group")
        if group is not None and getattr(config.option, "loadgroup", False) and hasattr(item, "id"):
            # pytest-xdist writes a field for this that pytest 9.2 no longer reads:
            # https://github.com/pytest-dev/pytest-xdist/issues/1386
            item._id = type(item.id).parse(f"{item.nodeid}@{group.args[0]}")
    items.sort(key=lambda item: _shares(item, "ray_cluster"), reverse=True)


def _shares(item: pytest.Item, fixture: str) -> bool:
    slow = item.get_closest_marker("slow")
    return slow is None and fixture in getattr(item, "fixturenames", ())


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    """Weights and inputs that a test draws without a generator are the same in every run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def table_of() -> Callable[..., pa.Table]:
    """The maker of small tables."""
    return make_table


def make_calibration(**changes: Any) -> PatientCalibration:
    """A calibration in which every scale leaves scores as they are."""
    plain = PatientCalibration(
        hospitals=("h1",),
        num_normal=120,
        num_abnormal=30,
        type_scale=Scale(),
        type_offsets=(0.0,) * len(CHROMOSOMES),
        cell_scale=Scale(),
        patient_scale=Scale(),
        threshold=4.0,
        specificity=0.99,
        types_per_patient=1.0,
        min_cells=2,
    )
    return replace(plain, **changes)


@pytest.fixture(scope="session")
def calibration_of() -> Callable[..., PatientCalibration]:
    """The maker of calibrations."""
    return make_calibration


@pytest.fixture(scope="session")
def quiet() -> Any:
    """A laboratory without randomness, blur or rounding: the bands only."""
    from homnet.simulator.laboratory import Laboratory

    camera = ("samples_per_px", "px_per_iscn", "band_levels", "bands", "darkness", "contrast")
    kept = {*camera, "saturation", "edge", "end_spread", "bend_spread", "bend_growth"}
    without = {
        name: (0.0,) * len(value) if isinstance(value, tuple) else 0.0
        for name, value in vars(Laboratory()).items()
        if name not in kept
    }
    return Laboratory(**without | dict.fromkeys(("end_px", "blur_px", "defocus_px"), 0.01))


@pytest.fixture(scope="session")
def images_of_cell() -> Callable[..., list[Any]]:
    """Draws the chromosomes of one cell of a simulated person's pairs."""
    from homnet.simulator.images import cell_look, draw_pair
    from homnet.simulator.karyograms import ChromosomeImage

    def draw(table: pa.Table, cell_id: str, *, seed: int) -> list[ChromosomeImage]:
        return [
            ChromosomeImage(row["chromosome"], homolog, image)
            for row, pair_PCL in zip(table.to_pylist(), pairs_of(table), strict=True)
            if row["cell_id"] == cell_id
            for homolog, image in enumerate(
                draw_pair(
                    pair_PCL,
                    row["chromosome"],
                    row["quality"]["straightness"],
                    cell_look(seed, row["hospital"], cell_id),
                    samples_per_px=3.0,
                    draw=generator(seed, "karyogram", cell_id, row["chromosome"]),
                )
            )
            if image is not None
        ]

    return draw


@pytest.fixture
def small_cohort(tmp_path: Path) -> Cohort:
    """Two hospitals, three patients each, all autosomes."""
    tables = (make_table(name, seed=seed) for seed, name in enumerate(("h1", "h2")))
    return write_cohort(
        tmp_path / "cohort", tables, scale={"h1": 3.0, "h2": 3.0}, provenance={"made by": "test"}
    )


@dataclass(frozen=True)
class Done:
    """What a job left when it ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def imported() -> ForkServerContext:
    """Starts processes that have imported the packages: torch and Ray take seconds each time."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(
        [
            "homnet_baselines.one_class",
            "homnet_platform.evaluation",
            "homnet_platform.tuning",
            "homnet_serve.deployment",
        ]
    )
    return server


@pytest.fixture(scope="session")
def run_job(imported: ForkServerContext) -> Callable[..., Done]:
    """Runs a job in a process of its own."""

    def run(cwd: Path, job: str, *arguments: str) -> Done:
        printed = [cwd.parent / f"{cwd.name}.{name}" for name in ("stdout", "stderr")]
        process = imported.Process(target=_job, args=(cwd, job, arguments, *printed))
        process.start()
        process.join(timeout=300)
        assert process.exitcode is not None, f"{job} {arguments} did not end"
        return Done(process.exitcode, *(path.read_text() for path in printed))

    return run


def _job(cwd: Path, job: str, arguments: tuple[str, ...], stdout: Path, stderr: Path) -> None:
    os.chdir(cwd)
    path = str(ROOT / "jobs" / job)
    sys.argv = [path, *arguments]
    with stdout.open("w") as out, stderr.open("w") as err:
        sys.stdout, sys.stderr = out, err
        runpy.run_path(path, run_name="__main__")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of an S3 server on this machine, to which pyarrow turns in all processes."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in S3_ENVIRONMENT.items():
            patch.setenv(name, value)
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str) -> Callable[[str], str]:
    """Names of URIs in a bucket of the test's own, ``bucket("folder")``."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    store = fs.S3FileSystem(endpoint_override=s3_server, allow_bucket_creation=True)
    store.create_dir(name)
    return lambda folder: f"s3://{name}/{folder}?endpoint_override={s3_server}"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray for all tests of this process that need one.

    Workers find the packages without an install: they inherit the path, as a ``runtime_env`` would
    start each of them through one process more. Those that are idle wait for the next test, since
    importing torch again takes longer than most tests.
    """
    import ray

    from homnet_platform.runtime import LAPTOP_ENVIRONMENT, configure_ray_data

    environment = {
        **LAPTOP_ENVIRONMENT,
        **S3_ENVIRONMENT,
        "RAY_AUTH_MODE": "disabled",
        "RAY_idle_worker_killing_time_threshold_ms": "60000",
        # Beside another test process, workers of the usual low priority starve.
        "RAY_worker_niceness": "0",
        "PYTHONPATH": PACKAGES,
    }
    previous = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    # Two workers, and the reader of their pairs.
    ray.init(address="local", num_cpus=3, log_to_driver=False)
    configure_ray_data()
    yield
    ray.shutdown()
    for name, value in previous.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
