"""Secret keys: where they come from, and which are refused."""

from pathlib import Path

import pytest

from homnet.errors import ConfigError
from homnet.secret_key import read_secret_key

KEY = b"0123456789abcdef"


@pytest.mark.parametrize("newline", [b"", b"\n", b"\r\n"])
def test_a_newline_at_its_end_is_no_part_of_the_key(tmp_path: Path, newline: bytes) -> None:
    (tmp_path / "key").write_bytes(KEY + newline)
    assert read_secret_key(tmp_path / "key", "NO_SUCH_KEY") == KEY


def test_the_variable_holds_the_key_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_secret_key(None, "A_KEY") is None
    monkeypatch.setenv("A_KEY", KEY.decode() + "\n")
    assert read_secret_key("", "A_KEY") == KEY
    (tmp_path / "key").write_bytes(KEY)
    with pytest.raises(ConfigError, match="are both given"):
        read_secret_key(tmp_path / "key", "A_KEY")


@pytest.mark.parametrize("key", ["", "\n", "0123456789abcde", " " * 40, "\xe9" * 7])
def test_a_key_that_can_be_guessed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    (tmp_path / "key").write_text(key)
    with pytest.raises(ConfigError, match="give at least 16"):
        read_secret_key(tmp_path / "key", "A_KEY")
    monkeypatch.setenv("A_KEY", key)
    with pytest.raises(ConfigError, match="A_KEY: the key has"):
        read_secret_key(None, "A_KEY")


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_secret_key(tmp_path, "A_KEY")
