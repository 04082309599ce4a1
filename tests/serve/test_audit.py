"""The audit log: whoever changes a line, takes one out or removes a file is found out."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from homnet.errors import DataError
from homnet.files import write_whole
from homnet.locations import files_in, to_location
from homnet_serve import audit
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
        paths.append(tmp_path / log.name)
    return paths


def test_a_whole_log_passes(files: list[Path]) -> None:
    whole = AuditFile(4, 0, False)
    assert verify_audit(files[0].parent) == {path.name: whole for path in files}
    entry = json.loads(files[1].read_text().splitlines()[0])
    assert list(entry["heads"]) == [files[0].name]
    assert files[0].stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("line", [1, 2, 3])
def test_a_changed_line_is_found(files: list[Path], line: int) -> None:
    """Also the last line of the newest log, which no other line names."""
    lines = files[1].read_text().splitlines()
    lines[line] = lines[line].replace("answered", "refused")
    files[1].write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=f"the digest of line {line + 1} is wrong"):
        verify_audit(files[1].parent)


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "\\xff", '{"previous": 1}', '{"number": NaN}', "[" * 10_000, '{"heads": 3}'],
)
def test_whatever_a_line_is_it_is_one_sentence(files: list[Path], line: str) -> None:
    for number in (2, 0):
        lines = files[0].read_text().splitlines()
        lines[number] = line
        files[0].write_text("\n".join(lines) + "\n")
        with pytest.raises(DataError, match=rf"{files[0].name}: line {number + 1} does not"):
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


@pytest.mark.parametrize("length", [0, 30, 70])
@pytest.mark.parametrize("rest", [b"", b"x" * 50])
@pytest.mark.parametrize("number", [0, 1, 2, 9])
def test_the_last_line_is_found_from_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, rest: bytes, number: int
) -> None:
    monkeypatch.setattr(audit, "_TAIL_BYTES", 8)
    lines = [b"%d" % n * length for n in range(number)]
    (tmp_path / "log").write_bytes(b"".join(line + b"\n" for line in lines) + rest)
    assert audit._last_line(tmp_path / "log") == (lines[-1] if lines else None)


def test_of_earlier_logs_only_the_end_is_read(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(audit, "_TAIL_BYTES", 1024)
        patch.setattr(Path, "read_bytes", _failing)
        log = AuditLog(files[0].parent)
    log.close()
    assert set(verify_audit(files[0].parent)) == {log.name, *(path.name for path in files)}
    opening = json.loads((files[0].parent / log.name).read_text().splitlines()[0])
    assert opening["heads"] == {
        path.name: json.loads(path.read_text().splitlines()[-1])["digest"] for path in files
    }


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="no audit log"):
        AuditLog(tmp_path / "file" / "audit")


def _fragment(file: int, content: bytes) -> int:
    """A disk that takes half of a line and is full."""
    if len(content) < 40:
        raise OSError(28, "No space left on device")
    return _os_write(file, content[: len(content) // 2])


_os_write = os.write


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
    lines = [json.loads(line) for line in (tmp_path / log.name).read_text().splitlines()]
    assert [line.get("result") for line in lines] == [None, "before", "after", "last"]
    assert [line.get("lost") for line in lines] == [None, None, 2, None]
    assert verify_audit(tmp_path) == {log.name: AuditFile(4, 2, False)}


def test_a_system_without_fdatasync_syncs_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "fdatasync")
    log = AuditLog(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _failing)
        with pytest.raises(OSError, match="Input/output"):
            log.append({"event": "answered"})
    log.append({"event": "answered"})
    log.close()
    assert verify_audit(tmp_path) == {log.name: AuditFile(2, 1, False)}


def test_the_beginning_of_a_line_is_no_broken_chain(tmp_path: Path) -> None:
    """A killed process leaves one; the next file names the last whole line."""
    for _ in range(2):
        log = AuditLog(tmp_path)
        log.close()
        with (tmp_path / log.name).open("ab") as file:
            file.write(b'{"event": "answ')
    assert set(verify_audit(tmp_path).values()) == {AuditFile(1, 0, True)}
    text = (tmp_path / log.name).read_bytes()
    (tmp_path / log.name).write_bytes(text + b"\n")
    with pytest.raises(DataError, match="line 2 does not continue"):
        verify_audit(tmp_path)


def test_a_full_disk_is_said_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", _fragment)
    with pytest.raises(DataError, match="no audit log can be written"):
        AuditLog(tmp_path)


def test_logs_of_earlier_versions_are_still_verified(tmp_path: Path) -> None:
    """Their lines have no digest of their own."""
    lines, previous = [], "0" * 64
    for number in range(3):
        content = {"number": number, "previous": previous, "event": "answered"}
        lines.append(json.dumps(content, sort_keys=True).encode())
        previous = hashlib.sha256(lines[-1]).hexdigest()
    earlier = tmp_path / "20200101T000000-0.jsonl"
    earlier.write_bytes(b"\n".join(lines) + b"\n")
    log = AuditLog(tmp_path)
    log.close()
    assert verify_audit(tmp_path)[earlier.name] == AuditFile(3, 0, False)
    earlier.write_bytes(b"\n".join(lines[:2]) + b"\n")
    with pytest.raises(DataError, match="removed or cut off"):
        verify_audit(tmp_path)
    earlier.write_bytes(b"\n".join([lines[0], lines[2]]) + b"\n")
    with pytest.raises(DataError, match="line 2 does not continue"):
        verify_audit(tmp_path)


KEY = b"0123456789abcdef"


def _write(directory: str | Path, **options: Any) -> str:
    log = AuditLog(directory, **options)
    for number in range(3):
        log.append({"event": "answered", "result": number})
    log.close()
    return log.name


def test_a_log_computed_anew_is_found_by_its_key(tmp_path: Path) -> None:
    before = _write(tmp_path / "log")  # from before there was a key
    name = _write(tmp_path / "log", key=KEY)
    assert set(verify_audit(tmp_path / "log", key=KEY)) == {before, name}
    with pytest.raises(DataError, match=r"was written with a key; give the key"):
        verify_audit(tmp_path / "log")
    with pytest.raises(DataError, match=rf"{name}: the digest of line 1 is wrong.*another key"):
        verify_audit(tmp_path / "log", key=KEY[::-1])
    whole = (tmp_path / "log" / name).read_bytes()
    for key in (None, KEY[::-1]):  # somebody without the key writes it all again
        shutil.copy(tmp_path / "anew" / _write(tmp_path / "anew", key=key), tmp_path / "log" / name)
        with pytest.raises(DataError, match=name):
            verify_audit(tmp_path / "log", key=KEY)
    (tmp_path / "log" / name).write_bytes(whole)
    # The log without a key is proven by the one with the key, up to the line that it names.
    shutil.copy(tmp_path / "anew" / _write(tmp_path / "anew"), tmp_path / "log" / before)
    with pytest.raises(DataError, match="was removed or cut off"):
        verify_audit(tmp_path / "log", key=KEY)
    other = _write(tmp_path / "unkeyed")
    with pytest.raises(DataError, match=f"{other}: was not written with the key"):
        verify_audit(tmp_path / "unkeyed", key=KEY)


@pytest.mark.parametrize("key", [None, KEY])
def test_what_no_longer_fits_the_anchor_is_found(tmp_path: Path, key: bytes | None) -> None:
    log, anchor = tmp_path / "log", tmp_path / "elsewhere"
    first, last = (_write(log, key=key, anchor=anchor) for _ in range(2))
    assert set(verify_audit(log, key=key, anchor=anchor)) == {first, last}
    whole = (log / last).read_bytes()
    # A line more than the anchor knows is what a process leaves that was killed in between.
    kept = (anchor / f"{last}.json").read_bytes()
    lines = whole.splitlines(keepends=True)

    def faults() -> str:
        with pytest.raises(DataError) as error:
            verify_audit(log, key=key, anchor=anchor)
        return str(error.value)

    (log / last).write_bytes(b"".join(lines[:-1]))
    verify_audit(log, key=key)  # nothing else notices
    assert f"{last}: was shortened to 3 lines; the anchor knows 4" in faults()
    (log / last).unlink()
    verify_audit(log, key=key)
    assert f"{last}: was removed or damaged; the anchor knows 4 lines" in faults()
    shutil.copy(log.parent / "anew" / _write(log.parent / "anew", key=key), log / last)
    assert f"{last}: was computed anew; line 4" in faults()
    (log / last).write_bytes(whole)
    (anchor / f"{last}.json").unlink()
    assert f"{last}: its anchor is missing" in faults()
    for damaged in (b"", b"[]", b'{"lines": 0, "digest": ""}', kept[:-4]):
        (anchor / f"{last}.json").write_bytes(damaged)
        assert f"anchor {last}.json" in faults()
    (anchor / f"{last}.json").write_bytes(kept)
    verify_audit(log, key=key, anchor=anchor)


def test_a_line_written_meanwhile_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(tmp_path / "log", anchor=tmp_path / "elsewhere")
    log.append({"event": "answered", "result": 1})

    def reads_and_answers(*arguments: Any) -> Any:
        found = read(*arguments)
        log.append({"event": "answered", "result": 2})
        return found

    read = audit._read
    monkeypatch.setattr(audit, "_read", reads_and_answers)
    assert set(verify_audit(tmp_path / "log", anchor=tmp_path / "elsewhere")) == {log.name}
    log.close()


def test_a_line_that_cannot_be_anchored_stays_and_says_that_it_was_withheld(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(tmp_path / "log", anchor=tmp_path / "elsewhere")
    with monkeypatch.context() as patch:
        patch.setattr("homnet_serve.audit.write_whole", _failing)
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output"):
                log.append({"event": "answered"})
    log.append({"event": "answered"})
    log.close()
    found = verify_audit(tmp_path / "log", anchor=tmp_path / "elsewhere")
    assert found == {log.name: AuditFile(4, 0, False, 2)}


def test_a_log_whose_replica_did_not_start_needs_no_anchor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"anchor": tmp_path / "elsewhere"}
    with monkeypatch.context() as patch:
        patch.setattr("homnet_serve.audit.write_whole", _failing)
        with pytest.raises(DataError, match="no audit log can be written"):
            AuditLog(tmp_path / "log", **options)
    name = _write(tmp_path / "log", **options)
    found = verify_audit(tmp_path / "log", **options)
    assert sorted(file.num_lines for file in found.values()) == [1, 4]
    (tmp_path / "elsewhere" / f"{name}.json").unlink()
    with pytest.raises(DataError, match=f"{name}: its anchor is missing"):
        verify_audit(tmp_path / "log", **options)


def test_a_log_that_begins_meanwhile_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"anchor": tmp_path / "elsewhere"}
    _write(tmp_path / "log", **options)
    logs, read = audit._logs, audit._read
    begun: list[AuditLog] = []

    def begins_and_lists(place: Any) -> Any:
        monkeypatch.setattr(audit, "_logs", logs)  # the new log lists the others, too
        begun.append(AuditLog(tmp_path / "log", **options))
        begun[0].append({"event": "answered"})
        return logs(place)

    def reads_and_answers(*arguments: Any) -> Any:
        found = read(*arguments)
        begun[0].append({"event": "answered"})
        return found

    monkeypatch.setattr(audit, "_logs", begins_and_lists)
    monkeypatch.setattr(audit, "_read", reads_and_answers)
    assert len(verify_audit(tmp_path / "log", **options)) == 2
    begun[0].close()


def test_an_object_store_has_an_object_for_each_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: Callable[[str], str]
) -> None:
    audit = bucket("audit")
    options: dict[str, Any] = {"key": KEY, "anchor": bucket("anchor")}
    first = _write(audit, **options)
    log = AuditLog(audit, **options)
    with monkeypatch.context() as patch:
        patch.setattr("homnet_serve.audit.write_whole", _failing)
        with pytest.raises(OSError, match="Input/output"):
            log.append({"event": "answered"})
    log.append({"event": "answered"})
    log.close()
    found = verify_audit(audit, **options)
    assert found == {first: AuditFile(4, 0, False), log.name: AuditFile(2, 1, False)}
    names = files_in(to_location(audit) / first)
    assert names == [f"{number:09d}" for number in range(4)]
    # The same logs, copied to a local disk.
    for folder in ("audit", "anchor"):
        for name in files_in(to_location(bucket(folder)), recursive=True):
            write_whole(tmp_path / folder / name, (to_location(bucket(folder)) / name).read_bytes())
    assert verify_audit(tmp_path / "audit", key=KEY, anchor=tmp_path / "anchor") == found
    objects = [to_location(audit) / first / name for name in names]
    objects[3].unlink()
    with pytest.raises(DataError, match=rf"{first}: was shortened to 3 lines"):
        verify_audit(audit, **options)
    objects[1].unlink()
    with pytest.raises(DataError, match="line 2 does not continue the chain"):
        verify_audit(audit, **options)


def test_an_upload_that_fails_and_arrives_leaves_no_line_that_another_log_could_name(
    monkeypatch: pytest.MonkeyPatch, bucket: Callable[[str], str]
) -> None:
    def arrives(*arguments: Any) -> None:
        write_whole(*arguments)
        raise OSError(110, "Connection timed out")

    log = AuditLog(bucket("audit"))
    with monkeypatch.context() as patch:
        patch.setattr("homnet_serve.audit.write_whole", arrives)
        with pytest.raises(OSError, match="timed out"):
            log.append({"event": "answered"})
    other = AuditLog(bucket("audit"))
    log.append({"event": "answered"})
    for one in (log, other):
        one.close()
    assert set(verify_audit(bucket("audit"))) == {log.name, other.name}
