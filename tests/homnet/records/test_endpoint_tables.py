"""Tables of load and faults say what the figures say."""

from typing import Any

from homnet.records.endpoint_tables import fuzz_markdown, load_markdown, serve_drill_markdown


def _asked(rate: float, p50: float = 10.0) -> dict[str, Any]:
    return {
        "patients_per_second": rate,
        "p50_ms": p50,
        "p99_ms": 3 * p50,
        "statuses": {"200": 1234, "503": 2},
    }


def _beside(asked: dict[str, Any], share: float) -> dict[str, Any]:
    bare = {
        "before": {"1 patient a pass": 95.0, "8 patients a pass": 90.0},
        "after": {"1 patient a pass": 80.0, "8 patients a pass": 105.0},
    }
    return asked | {"bare": bare, "share_of_bare": share}


LOAD: dict[str, Any] = {
    "endpoint": {
        "arrow": {"1": _beside(_asked(50, 11.2), 0.5), "16": _beside(_asked(83.4, 200), 0.834)},
        "json": {"1": _beside(_asked(30), 0.3), "16": _beside(_asked(60), 0.6)},
        "share_of_bare": 0.834,
        "settings": {
            "material": {"num_cells": 5},
            "proxy": "haproxy",
            "num_replicas": 2,
            "num_threads": 1,
        },
    },
    "one_at_a_time": {
        "clients": 16,
        "batching": [_asked(80), _asked(84)],
        "one patient a pass": [_asked(70), _asked(72)],
        "one request at a time": [_asked(40), _asked(42)],
        "times_as_fast": {"one patient a pass": 1.155, "one request at a time": 2.0},
    },
    "replicas": {
        "2 replicas of 1 thread": [{"1": _asked(40, 25), "16": _asked(70)}] * 2,
        "1 replica of 2 threads": [{"1": _asked(50, 20), "16": _asked(55)}] * 2,
        "seconds_in_all": 100,
        "machine": {},
        "settings": {},
    },
    "proxies": {
        "python": {"1": _asked(50), "16": _asked(83)},
        "haproxy": {"failed": "log: the endpoint did not come up"},
        "seconds_in_all": 100,
        "machine": {},
        "settings": {},
    },
    "soak": {
        **_asked(66, 40),
        "minutes": 15.0,
        "requests_per_second": 66.7,
        "share_of_capacity": 0.8,
        "memory_mib": {
            "start": {"controller": 100.0, "replica": 300.0},
            "end": {"controller": 101.0, "replica": 310.0},
        },
        "memory_growth": 0.0275,
    },
}


def test_load_is_told_part_by_part() -> None:
    text = load_markdown(LOAD)
    for line in (
        "| Arrow, 1 client | 11.2 | 33.6 | 50.0 | 100.0 | 0.50 |",
        "| JSON, 16 clients | 10.0 | 30.0 | 60.0 | 100.0 | 0.60 |",
        "2 replicas of 1 thread, proxy: haproxy",
        "| 2 replicas of 1 thread | 40.0 (25.0, 25.0) | 70.0 (10.0, 10.0) |",
        "A patient has 115 pairs.",
        "| batching | 82.0 | 10.0 |  |",
        "| one request at a time | 41.0 | 10.0 | 2.0 |",
        "| python | 50.0 (10.0) | 83.0 (10.0) |",
        "| haproxy | did not start | did not start |",
        "15 minutes at 66.7 requests/s (80 % of capacity): 1,234 x 200, 2 x 503",
        "controller 100 to 101 MiB, replica 300 to 310 MiB; together +2.8 %.",
    ):
        assert line in text, line
    assert "seconds_in_all" not in text


def test_what_got_no_answer_has_no_latency() -> None:
    none = {"patients_per_second": 0.0, "p50_ms": None, "p99_ms": None, "statuses": {"500": 7}}
    proxies = {**LOAD["proxies"], "python": {"1": none, "16": none}}
    assert "| python | 0.0 (n/a) | 0.0 (n/a) |" in load_markdown({"proxies": proxies})


def test_parts_that_were_not_measured_are_left_out() -> None:
    text = load_markdown({"soak": LOAD["soak"]})
    assert text.startswith("15 minutes")
    assert "bare" not in text


def test_faults_are_told_one_by_one() -> None:
    fault = {
        "right": 500,
        "wrong": 0,
        "lost": 0,
        "absorbed": {"503": 3, "ReadError": 1},
        "seconds_without_answer": 1.26,
        "slowest_answer_s": 5.04,
        "slowest_calm_answer_s": 0.1,
        "seconds_until_whole": 12.4,
    }
    drill = {
        "faults": {
            "replica": fault,
            "promotion": {
                **fault,
                "absorbed": {},
                "seconds_to_promote": 1.1,
                "seconds_to_roll_back": 0.9,
            },
            "queue": {**fault, "flood": {"answered": 40, "503 busy": 24}},
        },
        "clients": 4,
        "replicas": 2,
    }
    text = serve_drill_markdown(drill)
    assert "| replica | 500 | 0 | 0 | 3 x 503, 1 x ReadError | 1.3 | 5.0 | 12 |" in text
    assert "| promotion | 500 | 0 | 0 | none |" in text
    assert (
        "answered after 1.1 s; after a roll-back the version before it answered within 0.9 s"
        in text
    )
    assert "Answers to the flood of the queue: 40 x answered, 24 x 503 busy." in text


def test_hostile_bodies_and_changed_stores_have_a_table_each() -> None:
    part = {
        "bodies": 50,
        "statuses": {"200": 4, "422": 46},
        "num_failed": 0,
        "slowest_s": 1.51,
        "largest_mib": 230.9,
        "longest_silence_s": 0.123,
    }
    changed = {"outcomes": {"refused": 8, "the same": 2}, "num_wrong": 0}
    text = fuzz_markdown(
        dict.fromkeys(("images", "manifests", "arrow", "json"), part)
        | {"changes": {"registry": changed}}
    )
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["json", "50", "4 x 200, 46 x 422", "0", "1.5", "231", "0.12"] in lines
    assert ["registry", "10", "8 x refused, 2 x the same", "0"] in lines
