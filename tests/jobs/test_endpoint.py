"""An endpoint on the command line: its audit log, and misspelt names in its config."""

import runpy
from pathlib import Path

import pytest

from homnet.errors import ConfigError, DataError
from homnet_serve.audit import KEY_VARIABLE, AuditLog

JOB = runpy.run_path(str(Path(__file__).parents[2] / "jobs" / "endpoint.py"), run_name="job")


def test_verification_says_what_it_found_and_what_it_cannot_find(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    key = tmp_path / "key"
    key.write_text("0123456789abcdef")

    def verify(directory: Path, **options: str) -> str:
        JOB["main"](JOB["VerifyAudit"](directory=str(directory), **options))
        return capsys.readouterr().out

    log = AuditLog(tmp_path / "plain")
    log.close()
    text = verify(tmp_path / "plain")
    assert f"{log.name}  1 lines, whole" in text
    assert "without --anchor" in text
    assert "without --key" in text
    whole = {"key": str(key), "anchor": str(tmp_path / "anchor")}
    log = AuditLog(tmp_path / "log", key=key.read_bytes(), anchor=tmp_path / "anchor")
    log.append({"event": "answered"})
    log.close()
    assert verify(tmp_path / "log", **whole) == f"{log.name}  2 lines, whole\n"
    with (tmp_path / "log" / log.name).open("ab") as file:
        file.write(b"{")
    assert "its process ended while it wrote one more" in verify(tmp_path / "log", **whole)
    (tmp_path / "log" / log.name).unlink()
    with pytest.raises(SystemExit) as ended:
        verify(tmp_path / "log", **whole)
    assert ended.value.code == 2
    assert f"{log.name}: was removed" in capsys.readouterr().err
    with pytest.raises(DataError, match="there is no audit log here"):
        verify(tmp_path / "log")
    key.write_text("short")
    with pytest.raises(ConfigError, match="give at least 16"):
        verify(tmp_path / "log", **whole)


def test_each_fault_of_an_audit_log_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = []
    for _ in range(2):
        log = AuditLog(tmp_path / "log", anchor=tmp_path / "anchor")
        log.close()
        logs.append(log.name)
    for name in logs:
        (tmp_path / "log" / name).write_bytes(b"{}\n")
    with pytest.raises(SystemExit) as ended:
        JOB["main"](JOB["VerifyAudit"](directory=str(tmp_path / "log")))
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for name, line in zip(sorted(logs), lines, strict=True):
        assert line.startswith(f"error: {tmp_path / 'log'}/{name}")


def test_a_config_whose_host_is_misspelt_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Serve would listen on all interfaces."""
    shipped = Path(__file__).parents[2] / "serve" / "config.yaml"
    JOB["main"](JOB["CheckConfig"](shipped))
    assert "know every name" in capsys.readouterr().out
    (tmp_path / "config.yaml").write_text(shipped.read_text().replace("  host:", "  hosst:"))
    with pytest.raises(ConfigError, match=r"does not know http_options\.hosst"):
        JOB["main"](JOB["CheckConfig"](tmp_path / "config.yaml"))
