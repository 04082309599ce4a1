"""Shadows: compared with what answers, never returned."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from scipy.special import expit

from homnet.bags.draw import BagConfig, PairBank
from homnet.bags.epochs import DeviceBank, draw_epoch
from homnet.calibration.bags import Calibration
from homnet.cohorts.pairs import MEASURED
from homnet.errors import RegistryError
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.model.reference_bags import reference_bags
from homnet.model.registry import Registry
from homnet_baselines.methods import read_form
from homnet_baselines.networks import SiameseForm

StreamOf = Callable[..., bytes]


TableOf = Callable[..., pa.Table]


def _until(endpoint: Any, reached: Callable[[], object]) -> None:
    for _ in range(600):
        if reached():
            return
        endpoint.run(asyncio.sleep(0.05))
    pytest.fail("it did not come to that within 30 seconds")


def test_a_shadow_is_compared_and_never_returned(
    start_endpoint: Any,
    tmp_path: Path,
    table_of: TableOf,
    stream_of: StreamOf,
    family: Callable[..., list[Checkpoint]],
    recorded: Any,
) -> None:
    endpoint = start_endpoint(tmp_path, shadow_candidates=True)
    shadow = endpoint.registry.publish(family(3)[2], "h1")
    table = table_of("h1", num_patients=1, num_cells=1).select(MEASURED.names)
    _until(endpoint, lambda: endpoint.service.store.shadow("h1"))
    response = endpoint.arrow(stream_of(table), key="h1")
    _until(endpoint, lambda: recorded("homnet_shadow_types", hospital="h1") == 22)
    assert recorded("homnet_shadow_probability_difference", hospital="h1") > 0
    assert shadow not in response.text


def test_a_comparator_is_a_shadow_and_never_answers(
    start_endpoint: Any, tmp_path: Path, table_of: TableOf, stream_of: StreamOf, recorded: Any
) -> None:
    endpoint = start_endpoint(
        tmp_path, shadow_candidates=True, forms="homnet_baselines.methods:read_form"
    )
    calibration = {"h1": Calibration(threshold=0.9, temperature=2.0)}
    shadow = Checkpoint(SiameseForm(width=4, backbone="MobileNet"), {}, {}, {}, calibration)
    torch.manual_seed(0)
    shadow = replace(shadow, weights=shadow.config.build().state_dict())
    predictor = Predictor(shadow.build(), shadow.calibration, version="")
    table = table_of("h1", num_patients=2, num_cells=3).select(MEASURED.names)
    version = endpoint.registry.publish(shadow, "h1")
    endpoint.registry.keep_reference_bags(version, reference_bags(predictor, table))
    store = endpoint.service.store
    _until(endpoint, lambda: store.shadow("h1"))
    response = endpoint.arrow(stream_of(table), key="h1")
    _until(endpoint, lambda: recorded("homnet_shadow_types", hospital="h1") == 44)
    # The same bags through batch evaluation.
    bank = PairBank.from_table(table_of("h1", num_patients=2, num_cells=3))
    epoch = draw_epoch(bank, BagConfig(num_cells=3), None, seed=0, epoch=0)
    logit = predictor.loaded_logits(DeviceBank(bank, "cpu").load(epoch))
    frame = epoch.describe(bank)
    keys = zip((people[0] for people in frame["patients"]), frame["chromosome"], strict=True)
    of_shadow = dict(zip(keys, predictor.probabilities(logit, "h1"), strict=True))
    answering = endpoint.checkpoints["h1"].calibration["h1"].temperature
    differences = [
        abs(
            expit(of_type["logit"] / answering)
            - of_shadow[patient["verdict"]["patient_id"], of_type["chromosome"]]
        )
        for patient in response.json()["patients"]
        for of_type in patient["evidence"]
    ]
    assert recorded("homnet_shadow_probability_difference", hospital="h1") == pytest.approx(
        sum(differences), abs=1e-4
    )
    with pytest.raises(RegistryError, match="only HomNet can answer"):
        Registry(endpoint.registry.root, read_form).promote("h1", version)
