"""Settings out of YAML: a typing error is one sentence, not a surprise at night."""

from typing import Any

import pytest

from homnet.errors import ConfigError
from homnet_serve.config import ServiceConfig, config_from, find_read_form


def test_settings_are_taken() -> None:
    config = config_from(
        ServiceConfig,
        {"registry": "r", "deadline_s": 3, "limits": {"max_pairs": 7}, "audit_sync": False},
    )
    assert (config.registry, config.deadline_s, config.limits.max_pairs) == ("r", 3.0, 7)
    assert config_from(ServiceConfig, {}) == ServiceConfig()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"registri": "r"}, "no setting 'registri'"),
        ({"max_bags": "many"}, "max_bags is 'many', expected int"),
        ({"max_bags": True}, "max_bags is True"),
        ({"max_bags": 0}, "max_bags must be at least 1"),
        ({"deadline_s": 0}, "deadline_s must be above 0"),
        ({"max_held_bytes": 5}, "could never be read"),
        ({"max_share": 0.1}, "max_share 0.1 of max_held_bytes .* could never be read"),
        ({"max_share": 1.5}, "max_share must be above 0 and at most 1"),
        ({"batch_wait_s": -1}, "batch_wait_s must not be negative"),
        ({"limits": {"max_pears": 1}}, "no setting 'max_pears'"),
        ({"limits": {"max_pairs": 0}}, "max_pairs must be at least 1"),
        ({"limits": 3}, "limits is 3"),
    ],
)
def test_wrong_settings_are_named(content: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config_from(ServiceConfig, content)


@pytest.mark.parametrize("name", ["nothing:here", "homnet_serve.config:nobody", "homnet", ":"])
def test_a_find_read_form_that_is_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match=r"forms: .* give module:function"):
        find_read_form(name)
