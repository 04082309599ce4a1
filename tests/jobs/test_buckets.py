"""The whole way on an object store: no step of it needs a directory that nodes share."""

import asyncio
import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import ray
import torch

from homnet.bags.draw import BagConfig, PairBank, rows_of_file
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.pairs import MEASURED
from homnet.cohorts.split import TRAIN, VALIDATION, SplitConfig, split_patients
from homnet.errors import HomNetError
from homnet.locations import files_in, in_memory, to_location
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import best_form
from homnet.model.registry import Registry
from homnet.reader.lessons import ReaderTraining
from homnet.reader.network import ReaderConfig
from homnet.results import read_json
from homnet.training.learning import train
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet_platform.adaptation import AdaptConfig, adapt
from homnet_platform.evaluation import EvaluateConfig, evaluate
from homnet_platform.fine_tuning import FineTuneConfig, fine_tune
from homnet_platform.ingest import IngestConfig, ingest
from homnet_platform.patients.calibration import CalibrateConfig, calibrate
from homnet_platform.patients.diagnosis import DiagnoseConfig, diagnose
from homnet_platform.patients.measurement import MeasureConfig, measure
from homnet_platform.pretraining import PretrainConfig, pretrain
from homnet_platform.reader_training import LearnReaderConfig, learn_reader
from homnet_platform.reporting import ReportConfig, report
from homnet_platform.simulate import SimulateConfig, simulate
from homnet_platform.sweep import TuneConfig
from homnet_platform.training import ScalingOptions
from homnet_platform.tuning import sweep
from homnet_serve.app import create_app
from homnet_serve.audit import verify_audit
from homnet_serve.bodies import ARROW_TYPE
from homnet_serve.config import ServiceConfig
from homnet_serve.keys import new_key, write_keys
from homnet_serve.service import Service

FORM = replace(best_form(64), width=8, pair_width=12, num_heads=2, stretched_length=64)
SPLIT = SplitConfig(validation=0.25, test=0.5, seed=9)
"""People of both classes in each part of both hospitals."""
TRAINING = TrainingConfig(batch_size=64, max_epochs=2, bags=BagConfig(num_cells=2))
HOSPITALS = ("hospital-1", "hospital-2")
Bucket = Callable[[str], str]


@pytest.mark.parametrize("place", ["ftp://host/x", "s3:/bucket/x", "no bucket", "a key"])
@pytest.mark.parametrize(
    "start",
    [
        lambda cohort, bad: pretrain(PretrainConfig(cohort=bad)),
        lambda cohort, bad: pretrain(PretrainConfig(cohort=cohort, output=bad)),
        lambda cohort, bad: fine_tune(FineTuneConfig(cohort=cohort, checkpoint=bad)),
        lambda cohort, bad: fine_tune(
            FineTuneConfig(cohort=cohort, checkpoint="shipped", output=bad, hospitals=("h1",))
        ),
        lambda cohort, bad: fine_tune(FineTuneConfig(cohort=cohort, registry=bad)),
        lambda cohort, bad: sweep(TuneConfig(cohort=cohort, output=bad, hospitals=("h1",))),
        lambda cohort, bad: sweep(TuneConfig(cohort=cohort, registry=bad)),
        lambda cohort, bad: evaluate(EvaluateConfig(cohort=cohort, output=bad)),
        lambda cohort, bad: evaluate(EvaluateConfig(cohort=cohort, checkpoint=bad)),
        lambda cohort, bad: calibrate(CalibrateConfig(cohort=cohort, output=bad)),
        lambda cohort, bad: calibrate(CalibrateConfig(cohort=cohort, registry=bad)),
        lambda cohort, bad: diagnose(DiagnoseConfig(cohort=cohort, output=bad)),
        lambda cohort, bad: diagnose(DiagnoseConfig(cohort=bad)),
        lambda cohort, bad: learn_reader(LearnReaderConfig(cohort=cohort, checkpoint=bad)),
        lambda cohort, bad: learn_reader(
            LearnReaderConfig(cohort=cohort, checkpoint="shipped", output=bad)
        ),
        lambda cohort, bad: Service(ServiceConfig(audit=bad)),
        lambda cohort, bad: Registry(bad),
        lambda cohort, bad: to_location(bad),
    ],
)
def test_what_names_no_store_is_refused_before_work_begins(
    start: Callable[[str, str], object],
    place: str,
    small_cohort: Cohort,
    s3_server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOMNET_API_KEYS", json.dumps({"keys": []}))
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("work begins"))
    bad = {
        "no bucket": f"s3://nobody-made-it/x?endpoint_override={s3_server}",
        "a key": f"s3://name:secret@bucket/x?endpoint_override={s3_server}",
    }.get(place, place)
    with pytest.raises(HomNetError, match=r"nothing can be stored there|a key stands") as caught:
        start(str(small_cohort.root), bad)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("s3*")), "a folder with the name of the URI"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_images_that_were_drawn_in_a_bucket_are_measured_there(bucket: Bucket) -> None:
    cohort = simulate(
        SimulateConfig(
            output=to_location(bucket("cohorts/simulated")),
            images=to_location(bucket("images")),
            num_healthy=1,
            num_patients=(1, 0, 0, 0),
            healthy_cells=1.0,
            patient_cells=1.0,
            num_files=2,
        )
    )
    done = ingest(
        IngestConfig(
            manifest=to_location(bucket("images/manifest.csv")),
            output=to_location(bucket("cohorts/measured")),
        )
    )
    assert done.num_images > cohort.num_pairs
    assert done.num_left_out < done.num_images / 20
    assert Cohort.open(bucket("cohorts/measured")).patients.keys() == cohort.patients.keys()
    assert done.report == to_location(bucket("cohorts/measured-extraction.csv"))
    diagnosed = diagnose(
        DiagnoseConfig(
            manifest=to_location(bucket("images/manifest.csv")), output=bucket("runs/diagnose")
        )
    )
    patients = pd.read_parquet(in_memory(diagnosed / "patients.parquet"))
    assert len(patients) == sum(len(of_hospital) for of_hospital in cohort.patients.values()) == 2
    assert {"index.html", "patients.parquet", "provenance.json"} <= set(files_in(diagnosed))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_from_people_to_answers(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = bucket("cohorts/simulated")
    simulate(
        SimulateConfig(
            output=to_location(cohort),
            seed=1,
            num_healthy=10,
            num_patients=(8, 8, 0, 0),
            healthy_cells=2.0,
            patient_cells=3.0,
            num_files=4,
        )
    )
    pretraining = PretrainConfig(
        cohort=cohort,
        output=bucket("runs/pretrain"),
        hospitals=("healthy-1",),
        model=FORM,
        training=replace(TRAINING, max_epochs=4, checkpoint_steps=1),
        split=SplitConfig(0.2, 0.2),
        scaling=ScalingOptions(num_workers=1),
    )
    _kill_when_it_has_a_checkpoint(pretraining, tmp_path)
    pretrained = pretrain(pretraining)
    assert "pre-training: goes on from" in capsys.readouterr().out
    assert Checkpoint.load(pretrained).version == _alone(pretraining).version
    adapted = adapt(
        AdaptConfig(
            cohort=cohort,
            checkpoint=str(pretrained),
            output=bucket("runs/adapted"),
            hospitals=("hospital-1",),
            min_people=2,
        )
    )
    assert Checkpoint.load(adapted).provenance["parent"] == Checkpoint.load(pretrained).version

    registry = bucket("registry")
    tuned = fine_tune(
        FineTuneConfig(
            cohort=cohort,
            checkpoint=str(pretrained),
            output=bucket("runs/tuned"),
            training=replace(TRAINING, labels="cohort"),
            split=SPLIT,
            registry=registry,
        )
    )

    evaluated = evaluate(
        EvaluateConfig(
            cohort=cohort,
            checkpoint=bucket("runs/tuned"),
            output=bucket("runs/evaluate"),
            bags=BagConfig(num_cells=2, rounds=2),
            split=SPLIT,
            num_bootstrap=20,
        )
    )
    calibrated = calibrate(
        CalibrateConfig(
            cohort=cohort,
            checkpoint=bucket("runs/tuned"),
            output=bucket("runs/calibrate"),
            split=SPLIT,
            min_cells=1,
            min_patients=1,
            registry=registry,
        )
    )
    diagnosed = diagnose(
        DiagnoseConfig(
            cohort=cohort,
            checkpoint=bucket("runs/calibrate"),
            output=bucket("runs/diagnose"),
            split=SPLIT,
            patients="test",
        )
    )
    measure(MeasureConfig(diagnosis=diagnosed, cohort=cohort, num_bootstrap=20))
    _read_findings(bucket, str(pretrained))
    page = report(
        ReportConfig(
            evaluation=evaluated,
            cohort=to_location(cohort),
            checkpoints=(pretrained, *tuned.values()),
            diagnosis=diagnosed,
        )
    )
    text = page.read_text(encoding="utf-8")
    assert "tuned/hospital-1" in text
    assert read_json(evaluated / "evaluation.json")["overall"]
    assert {"index.html", "patients.parquet", "provenance.json"} <= set(files_in(diagnosed))

    for hospital, place in calibrated.items():
        Registry(registry).promote(hospital, Checkpoint.load(place).digest)
    _compare_with_the_endpoint(bucket, tmp_path, diagnosed)


def _alone(config: PretrainConfig) -> Checkpoint:
    """The pre-training in this process, undisturbed, on one thread as a worker has."""
    cohort = Cohort.open(config.cohort).of_hospitals(config.hospitals)
    split = split_patients(cohort.patients, config.split)
    stage = Stage(
        name="undisturbed",
        model=config.model,
        training=config.training,
        train_patients=split[TRAIN],
        validation_patients=split[VALIDATION],
    )
    rows = [rows_of_file(cohort, number) for number in range(len(cohort.files))]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train(stage, PairBank.from_table(pa.concat_tables(rows)))
    finally:
        torch.set_num_threads(threads)


def _read_findings(bucket: Bucket, pretrained: str) -> None:
    """Trains a reader on other people, and lets it count in the verdicts."""
    simulate(
        SimulateConfig(
            output=to_location(bucket("cohorts/rearranged")),
            seed=2,
            num_healthy=1,
            num_patients=(30, 0, 0, 0),
            patient_cells=3.0,
            rearranged_types=True,
            num_files=2,
        )
    )
    reader = learn_reader(
        LearnReaderConfig(
            cohort=bucket("cohorts/rearranged"),
            checkpoint=pretrained,
            output=bucket("runs/findings"),
            hospitals=("hospital-1",),
            width=16,
            training=ReaderTraining(replace(TRAINING, max_epochs=1, labels="cohort")),
            split=SplitConfig(validation=0.3, test=0.0),
            cpus=1.0,
        )
    )
    calibrated = calibrate(
        CalibrateConfig(
            cohort=bucket("cohorts/simulated"),
            checkpoint=pretrained,
            findings=str(reader),
            output=bucket("runs/calibrate-with-reader"),
            hospitals=HOSPITALS,
            split=SPLIT,
            min_cells=1,
            min_patients=1,
        )
    )
    diagnosed = diagnose(
        DiagnoseConfig(
            cohort=bucket("cohorts/simulated"),
            checkpoint=bucket("runs/calibrate-with-reader"),
            output=bucket("runs/diagnose-with-reader"),
            hospitals=HOSPITALS,
            split=SPLIT,
            patients="test",
            pages="none",
        )
    )
    assert set(calibrated) == set(HOSPITALS)
    version = Checkpoint.load(reader, ReaderConfig.of_json).version
    assert read_json(diagnosed / "provenance.json")["findings"] == version


def _kill_when_it_has_a_checkpoint(config: PretrainConfig, tmp_path: Path) -> None:
    """Starts a pre-training in a process of its own, and kills that after its first checkpoint."""
    script = (
        "import pickle; from homnet_platform.pretraining import pretrain; "
        f"pretrain(pickle.loads({pickle.dumps(config)!r}))"
    )
    log = (tmp_path / "killed.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    run = to_location(config.output) / "ray" / "pre-training"
    deadline = time.monotonic() + 300
    seen: set[str] = set()
    # When the second is there, the first is registered.
    while len(seen) < 2:
        assert process.poll() is None, (tmp_path / "killed.log").read_text()
        assert time.monotonic() < deadline
        seen |= set(re.findall(r"checkpoint_\d[^/]*", " ".join(files_in(run, recursive=True))))
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    log.close()
    assert not (to_location(config.output) / "checkpoint").exists()


def _compare_with_the_endpoint(bucket: Bucket, tmp_path: Path, diagnosed: Any) -> None:
    """Asks an endpoint on the bucket for everybody whom the batch job judged."""
    judged = pd.read_parquet(in_memory(diagnosed / "patients.parquet")).set_index("patient_id")
    table = Cohort.open(bucket("cohorts/simulated")).read(columns=MEASURED.names)
    asked = table.filter(pc.is_in(table["patient_id"], pa.array(list(judged.index))))
    body = io.BytesIO()
    with pa.ipc.new_stream(body, asked.schema) as writer:
        writer.write_table(asked)
    secret, key = new_key("one", HOSPITALS)
    write_keys(tmp_path / "keys.json", [key])
    service = Service(
        ServiceConfig(
            registry=bucket("registry"),
            keys=str(tmp_path / "keys.json"),
            audit=bucket("audit"),
            audit_anchor=bucket("anchor"),
        )
    )
    app = create_app(service)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://endpoint") as client,
        ):
            headers = {"Authorization": f"Bearer {secret}", "Content-Type": ARROW_TYPE}
            return await client.post("/v1/diagnose", content=body.getvalue(), headers=headers)

    answer = asyncio.run(ask())
    assert answer.status_code == 200, answer.text
    verdicts = {one["verdict"]["patient_id"]: one["verdict"] for one in answer.json()["patients"]}
    assert verdicts.keys() == set(judged.index)
    for name, one in verdicts.items():
        assert one["decision"] == judged.loc[name, "decision"]
    (log,) = verify_audit(bucket("audit"), anchor=bucket("anchor")).values()
    assert log.num_lines >= 2
