"""Every third-party import is declared in the extra of its package, and nothing else is."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS: dict[str, list[str]] = {
    "base": PROJECT["dependencies"],
    **PROJECT["optional-dependencies"],
}
OURS = {"homnet", "homnet_platform", "homnet_serve", "homnet_baselines", "tests"}
IMPORT_NAMES = {
    "grpcio": "grpc",
    "mlflow-skinny": "mlflow",
    "pillow": "PIL",
    "prometheus-client": "prometheus_client",
    "python-multipart": "python_multipart",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}
# Parts of Ray that are extras of it; its dashboard, "default", is not imported.
RAY_PARTS = {"data", "serve", "train", "tune"}
# Run as commands, or read by mypy.
TOOLS = {
    *("build", "hatchling", "import-linter", "mypy", "pre-commit", "pytest-xdist", "ruff"),
    *("pandas-stubs", "scipy-stubs", "types-tqdm"),
}
# What a node needs that runs the files of a folder.
NODES = [
    ("homnet", ("base",)),
    ("platform", ("base", "train", "mlflow", "optuna")),
    ("serve", ("base", "serve")),
    ("baselines", ("base", "baselines")),
    ("tests", tuple(REQUIREMENTS)),
]


@cache
def _imported_by(path: Path) -> set[str]:
    dotted: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            dotted |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            dotted |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            dotted |= {f"ray.{node.attr}"} if node.value.id == "ray" else set()
    words = [name.split(".") for name in dotted]
    parts = {f"ray.{rest[0]}" for first, *rest in words if first == "ray" and rest}
    names = {first for first, *_ in words if first not in sys.stdlib_module_names}
    return (names - OURS) | (parts & {f"ray.{part}" for part in RAY_PARTS})


def _imported(paths: Iterable[Path]) -> set[str]:
    """Import names of other people's packages; ``ray.data`` and its like beside ``ray``."""
    return set[str]().union(*map(_imported_by, paths))


def _files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def _parsed(requirement: str) -> tuple[str, list[str], str]:
    """Name, extras and bounds."""
    match = re.fullmatch(r"([\w-]+)(?:\[([\w,]+)\])?(.*)", requirement)
    assert match, requirement
    return match[1], (match[2] or "").split(","), match[3]


def _declared(*groups: str) -> set[str]:
    """Import names that the requirements of these groups provide."""
    names: set[str] = set()
    for name, extras, _ in (_parsed(one) for group in groups for one in REQUIREMENTS[group]):
        names |= {IMPORT_NAMES.get(name, name)} - TOOLS
        names |= {f"{name}.{extra}" for extra in extras if extra in RAY_PARTS}
    return names


@pytest.mark.parametrize(("folder", "groups"), NODES)
def test_what_a_package_imports_is_in_its_extra(folder: str, groups: tuple[str, ...]) -> None:
    assert _imported(_files(folder)) - _declared(*groups) == set()


@pytest.mark.parametrize("path", _files("jobs"), ids=lambda path: path.stem)
def test_a_job_needs_no_extra_but_those_of_the_packages_it_imports(path: Path) -> None:
    text = path.read_text()
    extras = [name for name in ("serve", "baselines") if f"homnet_{name}" in text]
    assert _imported_by(path) - _declared("base", "train", *extras) == set()


@pytest.mark.parametrize(
    ("group", "folders"),
    [
        ("base", ("homnet",)),
        ("train", ("platform",)),
        ("serve", ("serve",)),
        ("baselines", ("baselines",)),
        ("mlflow", ("platform",)),
        ("optuna", ("platform",)),
        ("dev", ("tests",)),
    ],
)
def test_what_is_declared_is_imported(group: str, folders: tuple[str, ...]) -> None:
    files = [path for folder in folders for path in _files(folder)]
    assert _declared(group) - _imported(files) == set()


def test_each_extra_is_for_somebody() -> None:
    extras = {"train", "serve", "baselines", "mlflow", "optuna"}
    assert set(REQUIREMENTS) == {*extras, "base", "dev"}
    assert {_parsed(one)[0] for one in REQUIREMENTS["dev"]} >= TOOLS


def test_everything_declared_is_pinned() -> None:
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().lower().splitlines()
    )
    names = {_parsed(one)[0].lower() for group in REQUIREMENTS.values() for one in group}
    assert names - {name.replace("_", "-") for name in pins} == set()


def test_training_and_serving_want_the_same_ray() -> None:
    parsed = [_parsed(one) for group in ("train", "serve") for one in REQUIREMENTS[group]]
    assert [bounds for name, _, bounds in parsed if name == "ray"] == [">=2.60,<2.61"] * 2
