"""Clients of a drill tell right answers from wrong ones."""

import time
from pathlib import Path

import pytest

from homnet.model.registry import Registry
from homnet.reader.reading import CalibratedReader
from homnet_serve.records.material import Material, verdict_of
from homnet_serve.records.steady_clients import Known, SteadyClients, Tally, difference


def _known_of(material: Material, registry: Registry, reader: CalibratedReader) -> list[Known]:
    known = []
    for hospital, table in zip(material.hospital_of, material.tables, strict=True):
        promoted = registry.promoted(hospital)
        assert promoted is not None
        verdict = verdict_of(registry.checkpoint(promoted.version), reader, table)
        known.append(Known(table, {promoted.version: verdict}))
    return known


def test_steady_clients_tell_right_from_wrong(
    material: Material,
    address: tuple[str, dict[str, str]],
    findings: Path,
    tmp_path: Path,
) -> None:
    url, keys = address
    _, settings = material.publish(tmp_path)
    reader = CalibratedReader.load(findings)
    known = _known_of(material, Registry(settings["registry"]), reader)

    def asked(known: list[Known], key: str = "both") -> Tally:
        with SteadyClients(url, keys[key], known, 2) as clients:
            time.sleep(0.2)
        return clients.take()

    good = asked(known)
    assert good.right >= 2
    assert (good.wrong, good.lost, good.reasons) == (0, 0, [])
    assert sum(good.versions.values()) == good.right == len(good.seconds)

    (version, verdict), *_ = known[0].verdicts.items()
    # The reader has read what the verdict rests on.
    kind = next(one for one in verdict["types"] if one["flagged"])
    assert kind["finding"]["reader"] == reader.version
    number = verdict["types"].index(kind)
    kinds = [*verdict["types"]]
    kinds[number] = {**kind, "evidence": kind["evidence"] + 2e-5}
    off = asked([Known(known[0].pairs, {version: {**verdict, "types": kinds}})])
    assert off.right == 0
    where = f"the verdict differs from that of batch evaluation: .types[{number}].evidence: "
    assert {reason[: len(where)] for reason in off.reasons} == {where}
    unknown = asked([Known(known[0].pairs, {"other": verdict})])
    assert unknown.wrong > 0
    assert "may not answer" in unknown.reasons[0]
    refused = asked(known, key="revoked")
    assert refused.lost > 0
    assert refused.right == 0


@pytest.mark.parametrize(
    ("found", "where"),
    [
        ({"a": [1, {"b": 0.5 + 1e-6, "c": "x", "d": None}], "e": 200.001, "f": True}, ""),
        ({"a": (1, {"b": 0.5, "c": "x", "d": None}), "e": 200, "f": True}, ""),
        ({"a": [1, {"b": 0.51, "c": "x", "d": None}], "e": 200, "f": True}, ".a[1].b: 0.51, exp"),
        ({"a": [1, {"b": 0.5, "c": "y", "d": None}], "e": 200, "f": True}, ".a[1].c: 'y', exp"),
        (
            {"a": [1, {"b": 0.5, "c": "x", "d": 0}], "e": 200, "f": True},
            ".a[1].d: 0, expected None",
        ),
        ({"a": [1, {"b": 0.5, "c": "x"}], "e": 200, "f": True}, ".a[1].d: missing"),
        ({"a": [1], "e": 200, "f": True}, ".a: 1 items, expected 2"),
        ({"a": [1, 2], "e": 200, "f": True}, ".a[1]: 2, expected {"),
        ({"a": [2, {}], "e": 200, "f": True}, ".a[0]: 2, expected 1"),
        ({"a": [1, {"b": float("nan")}], "e": 200, "f": True}, ".a[1].b: nan"),
        ({"a": [1, {"b": 0.5, "c": "x", "d": None}], "e": 200.01, "f": True}, ".e: 200.01"),
        ({"a": [1, {"b": 0.5, "c": "x", "d": None}], "e": 200, "f": 1}, ".f: 1, expected True"),
        ({"a": [1, {"b": 0.5, "c": "x", "d": None}], "e": 200, "f": True, "g": 0}, ".g: not exp"),
    ],
)
def test_a_difference_is_named_by_its_path(found: object, where: str) -> None:
    expected = {"a": [1, {"b": 0.5, "c": "x", "d": None}], "e": 200.0, "f": True}
    text = difference(expected, found, 1e-5)
    assert text.startswith(where)
    assert bool(text) == bool(where)


def test_places_of_breakpoints_may_move_further() -> None:
    expected = {"start": {"mb": 60.23, "level": 550}, "stop": None}
    assert difference(expected, {"start": {"mb": 60.22, "level": 550}, "stop": None}, 1e-5) == ""
    moved = difference(expected, {"start": {"mb": 60.13, "level": 550}, "stop": None}, 1e-5)
    assert moved == ".start.mb: 60.13, expected 60.23"
