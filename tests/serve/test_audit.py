"""The audit log: whoever changes a line, takes one out or removes a file is found out."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from homnet.errors import DataError
from homnet_serve.audit import AuditFile, AuditLog, verify_audit


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files, the second of which names the end of the first."""
    paths = []
    for _ in range(2):
        log = AuditLog(tmp_path)
        for number in range(3):
            log.append({"event": "answered", "result": number})
        log.close()
        paths.append(log.path)
    return paths


def test_a_whole_log_passes(files: list[Path]) -> None:
    whole = AuditFile(4, 0, False)
    assert verify_audit(files[0].parent) == {path.name: whole for path in files}
    entry = json.loads(files[1].read_text().splitlines()[0])
    assert list(entry["heads"]) == [files[0].name]
    assert files[0].stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("line", [1, 2])
def test_a_changed_line_is_found(files: list[Path], line: int) -> None:
    lines = files[0].read_text().splitlines()
    lines[line] = lines[line].replace("answered", "refused")
    files[0].write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=f"line {line + 2}"):
        verify_audit(files[0].parent)


@pytest.mark.parametrize("what", ["missing", "twice", "garbage"])
def test_lines_can_neither_go_nor_come(files: list[Path], what: str) -> None:
    lines = files[1].read_text().splitlines()
    lines[2:3] = {"missing": [], "twice": [lines[2]] * 2, "garbage": ["{"]}[what]
    files[1].write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="does not continue the chain"):
        verify_audit(files[1].parent)


def test_earlier_files_cannot_be_cut_or_removed(files: list[Path]) -> None:
    whole = files[0].read_text()
    files[0].write_text("".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match="removed or cut off"):
        verify_audit(files[0].parent)
    files[0].unlink()
    with pytest.raises(DataError, match="removed or cut off"):
        verify_audit(files[1].parent)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="no audit log"):
        AuditLog(tmp_path / "file" / "audit")


def _fragment(file: int, content: bytes) -> int:
    """A disk that takes half of a line and is full."""
    if len(content) < 40:
        raise OSError(28, "No space left on device")
    return _write(file, content[: len(content) // 2])


_write = os.write


def _failing(*_: Any) -> Any:
    raise OSError(5, "Input/output error")


@pytest.mark.parametrize(
    "broken",
    [{"write": _fragment}, {"fdatasync": _failing}, {"write": _fragment, "ftruncate": _failing}],
)
def test_the_chain_goes_on_after_a_failed_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: dict[str, Any]
) -> None:
    log = AuditLog(tmp_path)
    log.append({"event": "answered", "result": "before"})
    with monkeypatch.context() as patch:
        for name, function in broken.items():
            patch.setattr(os, name, function)
        for _ in range(2):
            with pytest.raises(OSError, match=r"No space|Input/output"):
                log.append({"event": "answered", "result": "never"})
    log.append({"event": "answered", "result": "after"})
    log.append({"event": "answered", "result": "last"})
    log.close()
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [line.get("result") for line in lines] == [None, "before", "after", "last"]
    assert [line.get("lost") for line in lines] == [None, None, 2, None]
    assert verify_audit(tmp_path) == {log.path.name: AuditFile(4, 2, False)}


def test_the_beginning_of_a_line_is_no_broken_chain(tmp_path: Path) -> None:
    """A killed process leaves one; the next file names the last whole line."""
    for _ in range(2):
        log = AuditLog(tmp_path)
        log.close()
        with log.path.open("ab") as file:
            file.write(b'{"event": "answ')
    assert set(verify_audit(tmp_path).values()) == {AuditFile(1, 0, True)}
    text = log.path.read_bytes()
    log.path.write_bytes(text + b"\n")
    with pytest.raises(DataError, match="line 2 does not continue"):
        verify_audit(tmp_path)


def test_a_full_disk_is_said_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", _fragment)
    with pytest.raises(DataError, match="no audit log can be written"):
        AuditLog(tmp_path)
