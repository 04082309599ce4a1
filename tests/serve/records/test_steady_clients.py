"""Clients of a drill tell right answers from wrong ones."""

import time
from pathlib import Path

from homnet.model.registry import Registry
from homnet_serve.records.material import (
    Material,
    logits_of,
)
from homnet_serve.records.steady_clients import Known, SteadyClients, Tally


def _known_of(material: Material, registry: Registry) -> list[Known]:
    known = []
    for hospital, table in zip(material.hospital_of, material.tables, strict=True):
        promoted = registry.promoted(hospital)
        assert promoted is not None
        logits = logits_of(registry.checkpoint(promoted.version), table)
        known.append(Known(table, {promoted.version: logits}))
    return known


def test_steady_clients_tell_right_from_wrong(
    material: Material,
    address: tuple[str, dict[str, str]],
    tmp_path: Path,
) -> None:
    url, keys = address
    _, settings = material.publish(tmp_path)
    known = _known_of(material, Registry(settings["registry"]))

    def asked(known: list[Known], key: str = "both") -> Tally:
        with SteadyClients(url, keys[key], known, 2) as clients:
            time.sleep(0.2)
        return clients.take()

    good = asked(known)
    assert good.right >= 2
    assert (good.wrong, good.lost, good.reasons) == (0, 0, [])
    assert sum(good.versions.values()) == good.right == len(good.seconds)

    (version, logits), *_ = known[0].logits.items()
    off = asked([Known(known[0].pairs, {version: logits + 2e-5})])
    assert off.right == 0
    assert set(off.reasons) == {"logits differ from those of batch evaluation"}
    unknown = asked([Known(known[0].pairs, {"other": logits})])
    assert unknown.wrong > 0
    assert "may not answer" in unknown.reasons[0]
    refused = asked(known, key="revoked")
    assert refused.lost > 0
    assert refused.right == 0
