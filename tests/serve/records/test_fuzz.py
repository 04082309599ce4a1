"""The fuzz of an endpoint: what it counts as wrong."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from homnet.errors import CohortError
from homnet_serve.records.fuzz import _changed, _compared, _Sent


def test_statuses_that_are_documented_are_no_failure() -> None:
    sent = _Sent()
    for status in ("200", "422", "413", "503", "504"):
        sent.add("kind", status, 0.5, 1.0)
    assert sent.figures(10.0)["num_failed"] == 0
    sent.add("slow", "500", 12.0, 400.04)
    sent.add("gone", "RemoteDisconnected", 0.1, 0.0)
    figures = sent.figures(10.0)
    assert figures["failed"] == ["slow: 500", "gone: RemoteDisconnected"]
    assert (figures["slowest_kind"], figures["over_deadline_s"]) == ("slow", 2.0)
    assert (figures["largest_mib"], figures["largest_kind"]) == (400.0, "slow")


def test_other_content_and_foreign_errors_are_wrong(tmp_path: Path) -> None:
    place = tmp_path / "a.bin"
    place.write_bytes(b"abc")
    rng = np.random.default_rng(0)

    def careless() -> pa.Table:
        return pa.table({"a": [place.read_bytes()]})

    def strict() -> pa.Table:
        if not place.is_file() or place.read_bytes() != b"abc":
            raise CohortError("damaged")
        return careless()

    assert _changed(tmp_path, rng, 30, strict)["num_wrong"] == 0
    found = _changed(tmp_path, rng, 30, careless)
    assert found["num_wrong"] > 5
    assert any("other content" in line for line in found["wrong"])
    assert any("uncaught FileNotFoundError" in line for line in found["wrong"])


def test_a_damaged_hospital_leaves_the_others() -> None:
    whole = {"h1": "a", "h2": "b"}
    assert _compared(whole, whole) == "the same"
    assert _compared({"h2": "b"}, whole) == "refused, others untouched"
    assert _compared({"h1": "a", "h2": "c"}, whole) == "other content"
