"""What goes over the wire: pairs in their two forms, and names that are known."""

import base64
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from homnet.cohorts.pairs import PAIR_BYTES, PAIR_SHAPE
from homnet_serve.schemas import Corrections, DiagnoseRequest, KaryogramsResponse, PairOfCell


def _pair(pair: Any, **fields: Any) -> PairOfCell:
    known = {"cell_id": "c", "chromosome": "21", "band_level": 550}
    return PairOfCell.model_validate({**known, "pair": pair, **fields})


def test_lists_and_base64_are_one_pair() -> None:
    pair_PCL = np.zeros(PAIR_SHAPE, np.uint8)
    pair_PCL[0, 0, :3], pair_PCL[0, 1, :2] = (9, 8, 7), (6, 255)
    lists = _pair([[[9, 8, 7], [6, 255]], None])
    assert lists.pair == pair_PCL.tobytes()
    assert lists == _pair(base64.b64encode(pair_PCL.tobytes()).decode())


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("?", "not base64"),
        (base64.b64encode(bytes(5)).decode(), f"5 bytes, expected the {PAIR_BYTES}"),
        ([None, [[1], [1]]], "homolog 0: expected a list of two chromatids"),
        ([[[1], []], None], "1 to 512 numbers"),
        ([[[1], [True]], None], "whole number from 0 to 255"),
        ([[[1], [256]], None], "whole number from 0 to 255"),
    ],
)
def test_other_pairs_are_refused(pair: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        _pair(pair)


@pytest.mark.parametrize("field", [{"chromosome": "23"}, {"band_level": 551}, {"cel_id": "c"}])
def test_unknown_names_are_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(field))):
        _pair([[[1], [1]], None], **field)


def test_the_examples_are_as_the_schemas_say() -> None:
    for example in DiagnoseRequest.model_json_schema()["examples"]:
        assert DiagnoseRequest.model_validate(example).patients[0].pairs[1].chromosome == "X"
    for example in Corrections.model_json_schema()["examples"]:
        assert [one.before for one in Corrections.model_validate(example).root] == ["", None]
    for example in KaryogramsResponse.model_json_schema()["examples"]:
        assert KaryogramsResponse.model_validate(example).pictures[0].chromosomes[0].number == 1
