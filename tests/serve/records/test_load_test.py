"""Parts of a load test, and what they need of one another."""

from pathlib import Path

import pytest

from homnet.errors import ConfigError, DataError
from homnet_serve.records.load_test import LoadTestConfig, measure
from homnet_serve.records.material import (
    MaterialConfig,
)


def test_a_soak_needs_the_capacity(tmp_path: Path) -> None:
    small = MaterialConfig(num_patients=1, num_cells=1, form="paper")
    with pytest.raises(DataError, match="measure the part 'endpoint'"):
        measure(LoadTestConfig(material=small, parts=("soak",), work=tmp_path))
    with pytest.raises(ConfigError, match="expected one of python"):
        LoadTestConfig(proxy="nginx")
