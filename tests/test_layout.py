"""The house: nothing happens at import, and platform/ never becomes a package."""

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import homnet
import homnet_baselines
import homnet_platform
import homnet_serve

ROOT = Path(__file__).parents[1]
PACKAGES = (homnet, homnet_platform, homnet_baselines, homnet_serve)


def test_platform_is_no_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()


@pytest.mark.xdist_group("layout")
def test_groups_of_tests_take_effect(request: pytest.FixtureRequest) -> None:
    """Without them the tests pass all the same, and take longer."""
    if getattr(request.config.option, "loadgroup", False):
        assert request.node.nodeid.endswith("@layout")


def test_importing_everything_does_nothing(tmp_path: Path) -> None:
    modules = [
        info.name
        for package in PACKAGES
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ] + [package.__name__ for package in PACKAGES]
    assert len(modules) > 20
    program = (
        "import importlib, logging, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "import ray\n"
        "assert not ray.is_initialized()\n"
        "assert not logging.getLogger('homnet').handlers\n"
        # A quarter of what every worker, replica and job imports, and none of them needs it.
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    path = os.pathsep.join(str(ROOT / part) for part in (".", "platform", "baselines", "serve"))
    done = subprocess.run(
        [sys.executable, "-c", program, "--not-ours"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
