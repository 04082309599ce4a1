"""Every metric has the tags that it is given, and none is recorded without them."""

import re
from pathlib import Path

import pytest
from ray.serve.metrics import Counter, Gauge, Histogram

from homnet_serve.metrics import Metrics

METRICS = vars(Metrics())


@pytest.mark.parametrize("name", METRICS)
def test_names_and_tags_are_those_of_this_package(name: str) -> None:
    info = METRICS[name].info
    assert info["name"].startswith("homnet_")
    assert not info["name"].endswith("_total"), "Ray appends it"
    # No tag can name a patient.
    assert set(info["tag_keys"]) <= {
        "route",
        "status",
        "code",
        "hospital",
        "decision",
        "outcome",
        "step",
        "version",
    }
    record = {Counter: "inc", Gauge: "set", Histogram: "observe"}[type(METRICS[name])]
    getattr(METRICS[name], record)(1.0, tags=dict.fromkeys(info["tag_keys"], "x"))
    if set(info["tag_keys"]) - {"route"}:  # Ray adds the route
        with pytest.raises(ValueError, match="Missing value for tag"):
            getattr(METRICS[name], record)(1.0, tags={})


def test_the_page_lists_them_as_ray_exports_them() -> None:
    page = (Path(__file__).parents[2] / "docs" / "endpoint.md").read_text()
    listed = dict(re.findall(r"^\| `ray_(homnet_\w+)` \| ([\w, ]*)\|", page, flags=re.M))
    expected = {
        one.info["name"] + "_total" * isinstance(one, Counter): ", ".join(one.info["tag_keys"])
        for one in METRICS.values()
    }
    assert {name: tags.strip() for name, tags in listed.items()} == expected
