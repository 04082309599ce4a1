"""Structured logs: known fields only, and nothing of what was sent."""

import json
import logging
from collections.abc import Iterator

import pytest

from homnet_serve.logs import JsonLines, fault_of, log_to_stderr


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """The package's logger, as it was afterwards."""
    logger = logging.getLogger("homnet_serve")
    before = (logger.level, logger.propagate, list(logger.handlers))
    yield logger
    logger.level, logger.propagate, logger.handlers = before


def test_a_line_holds_known_fields_only() -> None:
    extra = {"status": 200, "seconds": 0.5, "patient_id": "p-secret"}
    record = logging.makeLogRecord({"msg": "request", "levelname": "INFO", "created": 0.0} | extra)
    line = json.loads(JsonLines().format(record))
    assert line == {
        "time": "1970-01-01T00:00:00.000+00:00",
        "level": "info",
        "event": "request",
        "status": 200,
        "seconds": 0.5,
    }


def test_a_fault_is_its_type_and_place() -> None:
    try:
        raise KeyError("p-secret")
    except KeyError as error:
        fault = fault_of(error)
    assert fault["error"] == "KeyError"
    assert fault["where"].rpartition(":")[0] == __file__
    assert "p-secret" not in str(fault)
    assert fault_of(ValueError("never raised"))["where"] == "unknown"


def test_the_log_goes_to_stderr_once(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger, "handlers", [])
    log_to_stderr()
    log_to_stderr()
    assert [type(handler) for handler in logger.handlers] == [logging.StreamHandler]
    logging.getLogger("homnet_serve.access").debug("quiet")
    logging.getLogger("homnet_serve.access").error("loud")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [json.loads(line)["event"] for line in captured.err.splitlines()] == ["loud"]
