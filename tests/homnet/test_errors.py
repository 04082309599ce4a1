"""What an error says in one line."""

from homnet.errors import first_line


def test_the_first_line_or_the_kind() -> None:
    assert first_line(OSError("cannot be read\nat byte 7")) == "cannot be read"
    assert first_line(OSError()) == "OSError"
