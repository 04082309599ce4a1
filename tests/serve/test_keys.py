"""Keys: kept as digests, found in one way only, and never half-read."""

import hashlib
import json
import logging
import os
import stat
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from homnet.errors import ConfigError
from homnet_serve.errors import RequestError
from homnet_serve.keys import (
    ENVIRONMENT,
    Key,
    add_key,
    check_key,
    new_key,
    open_keys,
    read_keys,
    revoke_key,
    write_keys,
)


def test_a_key_is_found_by_its_secret_only(tmp_path: Path) -> None:
    secret, key = new_key("lab", ["h1"])
    other, second = new_key("lab-2", ["h2"])
    write_keys(tmp_path / "keys.json", [key, second])
    assert secret not in (tmp_path / "keys.json").read_text()
    assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0
    keys = open_keys(str(tmp_path / "keys.json"))
    assert check_key(keys, f"Bearer {secret}") == key
    assert check_key(keys, f"bearer {other}") == second
    for header in (
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Basic {secret}",
        secret,
        f"Bearer {key.sha256}",
    ):
        with pytest.raises(RequestError) as error:
            check_key(keys, header)
        assert error.value.status == 401


def test_revoked_and_empty_keys_open_nothing() -> None:
    secret, key = new_key("lab", ["h1"])
    with pytest.raises(RequestError):
        check_key([replace(key, revoked=True)], f"Bearer {secret}")
    empty = replace(key, sha256=hashlib.sha256(b"").hexdigest())
    with pytest.raises(RequestError):
        check_key([empty], "Bearer ")


def test_keys_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, key = new_key("lab", ["h1"])
    monkeypatch.setenv(ENVIRONMENT, json.dumps({"keys": [{**vars(key), "hospitals": ["h1"]}]}))
    for path in ("", str(tmp_path / "nowhere.json")):
        assert check_key(open_keys(path), f"Bearer {secret}").hospitals == ("h1",)
    write_keys(tmp_path / "keys.json", [new_key("lab-2", ["h2"])[1]])
    with pytest.raises(RequestError):
        check_key(open_keys(str(tmp_path / "keys.json")), f"Bearer {secret}")
    monkeypatch.delenv(ENVIRONMENT)
    with pytest.raises(ConfigError, match="no API keys"):
        open_keys("")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "[" * 10_000,
        '{"keys": ["a"]}',
        '{"keys": [{"id": "a"}]}',
        '{"keys": [{"id": [], "sha256": "' + "0" * 64 + '"}]}',
        '{"keys": [{"id": "a", "sha256": "' + "0" * 64 + '", "hospitals": "h1"}]}',
        '{"keys": [{"id": "a", "sha256": "' + "0" * 64 + '", "hospitals": 1e999}]}',
        '{"keys": [{"id": "a", "sha256": "xyz"}]}',
        '{"keys": [{"id": "a", "sha256": "' + "0" * 64 + '", "hospitals": [1]}]}',
        '{"keys": [{"id": "a", "sha256": "' + "0" * 64 + '", "admin": true}]}',
    ],
)
def test_what_is_no_key_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(ConfigError, match=r"keys\.json: .*; make it with jobs/endpoint\.py"):
        read_keys(tmp_path / "keys.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_keys(tmp_path / "none.json")


def test_files_of_before_can_be_read(tmp_path: Path) -> None:
    _, key = new_key("lab", ["h1"])
    content = json.dumps({"keys": [{**vars(key), "operator": True}]})
    (tmp_path / "keys.json").write_text(content)
    assert read_keys(tmp_path / "keys.json") == (key,)


def test_ids_are_unique(tmp_path: Path) -> None:
    _, key = new_key("lab", [])
    content = json.dumps({"keys": [vars(key), vars(key)]})
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(ConfigError, match="two keys"):
        read_keys(tmp_path / "keys.json")


def test_keys_are_added_and_revoked(tmp_path: Path) -> None:
    file = tmp_path / "new" / "keys.json"
    secret = add_key(file, "lab", ["h1"])
    add_key(file, "watch", [])
    with pytest.raises(ConfigError, match="has a key 'lab' already"):
        add_key(file, "lab", [])
    with pytest.raises(ConfigError, match="has no key 'lob', but lab, watch"):
        revoke_key(file, "lob")
    assert check_key(read_keys(file), f"Bearer {secret}").hospitals == ("h1",)
    revoke_key(file, "lab")
    assert [(key.id, key.revoked) for key in read_keys(file)] == [("lab", True), ("watch", False)]
    with pytest.raises(ConfigError, match="cannot be written"):
        write_keys(file / "keys.json", [])


@pytest.mark.parametrize(
    ("id", "hospitals", "said"),
    [("", [], "is empty"), ("\udcff", [], "not UTF-8"), ("lab", ["\udcff"], "not UTF-8")],
)
def test_a_key_that_could_not_be_read_again_is_refused(
    tmp_path: Path, id: str, hospitals: list[str], said: str
) -> None:
    file = tmp_path / "keys.json"
    add_key(file, "first", ["h1"])
    whole = file.read_bytes()
    with pytest.raises(ConfigError, match=said):
        add_key(file, id, hospitals)
    with pytest.raises(ConfigError, match=r"keys\.json: "):
        write_keys(file, [Key(id, "0" * 64, tuple(hospitals))])
    assert file.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives away")
def test_a_changed_key_file_keeps_owner_group_mode_and_access_list(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    add_key(file, "lab", [])
    os.chown(file, 1234, 2345)
    file.chmod(0o640)
    revoke_key(file, "lab")
    found = file.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 2345, 0o640)
    if sys.platform != "linux":
        return
    # User 77 may read, by tag, permissions and id; group and others may not.
    entries = [(1, 6, -1), (2, 4, 77), (4, 0, -1), (16, 4, -1), (32, 0, -1)]
    access = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *one) for one in entries)
    name = "system.posix_acl_access"
    try:
        os.setxattr(file, name, access)
    except OSError:
        pytest.skip("this file system has no access lists")
    add_key(file, "more", [])
    assert os.getxattr(file, name) == access


def test_an_owner_that_cannot_be_kept_is_said_before_anything_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys.json"
    add_key(file, "lab", [])
    whole = file.read_bytes()

    def refuse(path: Path, user: int, group: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    real = Path.stat

    def of_another(path: Path, **options: bool) -> os.stat_result:
        found = real(path, **options)
        return os.stat_result((*found[:4], 1234, *found[5:])) if path == file else found

    monkeypatch.setattr(os, "chown", refuse)
    monkeypatch.setattr(Path, "stat", of_another)
    with pytest.raises(ConfigError, match=r"user 1234.*run this as that user or as root"):
        revoke_key(file, "lab")
    monkeypatch.undo()
    assert file.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]


def test_a_link_to_a_key_file_stays_a_link(tmp_path: Path) -> None:
    file, link = tmp_path / "real.json", tmp_path / "keys.json"
    add_key(file, "lab", [])
    link.symlink_to(file)
    revoke_key(link, "lab")
    assert link.is_symlink()
    assert [key.revoked for key in read_keys(file)] == [True]


def test_changes_at_once_are_all_kept(tmp_path: Path) -> None:
    ids = [f"lab-{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda id: add_key(tmp_path / "new" / "keys.json", id, []), ids))
    assert sorted(key.id for key in read_keys(tmp_path / "new" / "keys.json")) == sorted(ids)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["keys.json"]


def test_a_read_that_fails_for_a_moment_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys.json"
    add_key(file, "lab", [])
    keys = open_keys(str(file))
    revoke_key(file, "lab")

    def fails(path: Path) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(Path, "read_bytes", fails)
        assert [[key.revoked for key in keys] for _ in range(2)] == [[False], [False]]
    assert [record.message for record in caplog.records] == ["keys_unreadable"]
    assert [key.revoked for key in keys] == [True]


def test_without_its_file_no_key_is_valid(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Taking the file away must not leave its keys open; putting it back opens them again."""
    file, away = tmp_path / "keys.json", tmp_path / "away.json"
    add_key(file, "lab", [])
    keys = open_keys(str(file))
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            file.rename(away)
            assert [list(keys) for _ in range(2)] == [[], []]
            away.rename(file)
            assert [key.id for key in keys] == ["lab"]
    assert [record.message for record in caplog.records] == ["keys_unreadable"] * 2
    assert "is gone" in caplog.records[0].reason


def test_a_file_that_is_damaged_or_out_of_reach_leaves_the_last_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys.json"
    add_key(file, "lab", [])
    keys = open_keys(str(file))
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    assert [key.id for key in keys] == ["lab"]
    file.write_bytes(whole)

    def denied(path: Path, **options: bool) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", denied)
        assert [key.id for key in keys] == ["lab"]


def test_keys_of_the_environment_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the help of revoke-key says."""
    secret, key = new_key("lab", ["h1"])
    for revoked in (False, True):
        stored = vars(replace(key, revoked=revoked))
        monkeypatch.setenv(ENVIRONMENT, json.dumps({"keys": [{**stored, "hospitals": ["h1"]}]}))
        if not revoked:
            keys = open_keys("")
    assert check_key(keys, f"Bearer {secret}").id == "lab"
    with pytest.raises(RequestError):
        check_key(open_keys(""), f"Bearer {secret}")


def test_a_key_file_is_private_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the umask, and when it takes its place: not only in the end."""
    modes = []
    place = Path.replace

    def replaced(path: Path, target: Path) -> None:
        modes.append(stat.S_IMODE(path.stat().st_mode))
        place(path, target)

    monkeypatch.setattr(Path, "replace", replaced)
    old = os.umask(0)
    try:
        write_keys(tmp_path / "keys.json", [new_key("lab", [])[1]])
    finally:
        os.umask(old)
    assert modes == [0o600]
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]
