"""The audit log: whoever changes a line, takes one out or removes a file is found out."""

import json
from pathlib import Path

import pytest

from homnet.errors import DataError
from homnet_serve.audit import AuditLog, verify_audit


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
    assert verify_audit(files[0].parent) == {path.name: 4 for path in files}
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
