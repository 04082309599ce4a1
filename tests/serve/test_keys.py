"""Keys: kept as digests, found in one way only, and never half-read."""

import hashlib
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from homnet.errors import ConfigError
from homnet_serve.errors import RequestError
from homnet_serve.keys import (
    ENVIRONMENT,
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


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    secret, key = new_key("lab", ["h1"])
    monkeypatch.setenv(ENVIRONMENT, json.dumps({"keys": [{**vars(key), "hospitals": ["h1"]}]}))
    assert check_key(open_keys(""), f"Bearer {secret}").hospitals == ("h1",)
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
    write_keys(tmp_path / "keys.json", [key, key])
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
