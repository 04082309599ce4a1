"""What an error says in one line."""

from dataclasses import dataclass
from typing import Literal

import pytest

from homnet.errors import ConfigError, check_choices, first_line

Colour = Literal["red", "blue"]


@dataclass(frozen=True)
class _Config:
    colour: Colour = "red"
    size: Literal[1, 2] = 1
    name: str = "any"


def test_a_choice_that_there_is_not_is_refused() -> None:
    check_choices(_Config())
    check_choices(_Config("blue", 2, "green"))
    with pytest.raises(ConfigError, match="colour is 'green'; give 'red' or 'blue'"):
        check_choices(_Config("green"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="size is 3; give 1 or 2"):
        check_choices(_Config(size=3))  # type: ignore[arg-type]


def test_the_first_line_or_the_kind() -> None:
    assert first_line(OSError("cannot be read\nat byte 7")) == "cannot be read"
    assert first_line(OSError()) == "OSError"
