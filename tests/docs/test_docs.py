"""README and docs: short, every link and command leads somewhere, every number is of a result."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from homnet.records.rendering import render_page

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "cluster" / "README.md"]
_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_PATH = re.compile(
    r"(?<![\w./])(?:results/[\w-]+\.json|(?:homnet|platform|serve|tests|cluster)/[\w./-]+\.\w+)"
)
_JOB = re.compile(r"(?<![\w./])jobs/(?:records/)?\w+\.py")


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    text = _FENCE.sub("", page.read_text())
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def _commands(text: str) -> Iterator[str]:
    """Whole commands that run a job, lines that go on joined."""
    for line in text.replace("\\\n", " ").splitlines():
        found = re.search(r"python (?:/opt/homnet/)?(jobs/\S+\.py.*)", line)
        if found:
            yield found[1].split("#")[0].split("`")[0].strip()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.finditer(_FENCE.sub("", page.read_text())):
        target, _, anchor = unquote(link["target"]).partition("#")
        if target.startswith(("http:", "https:")):
            continue
        found = page.parent / target if target else page
        assert found.exists(), link["target"]
        assert not anchor or anchor in _anchors(found), link["target"]


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    # What jobs were called before is no place to look for files.
    text = page.read_text().partition("## Former names of commands")[0]
    for path in {*_PATH.findall(text), *_JOB.findall(text)}:
        assert (ROOT / path).exists(), path


def test_every_job_has_one_row() -> None:
    text = (ROOT / "docs" / "jobs.md").read_text()
    rows, _, earlier = text.partition("## Former names of commands")
    named = set(re.findall(r"^\| `(jobs/\S+\.py)", rows, re.MULTILINE))
    assert named == {str(path.relative_to(ROOT)) for path in (ROOT / "jobs").rglob("*.py")}
    for row in re.findall(r"^\|.*$", earlier, re.MULTILINE):
        assert row.count("|") == 3, row


def test_every_picture_is_shown() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for picture in (ROOT / "docs").glob("*.png"):
        assert picture.name in text, picture.name


@pytest.mark.parametrize("page", PAGES[:-1], ids=_name)
def test_tables_and_numbers_are_those_of_the_results(page: Path) -> None:
    assert render_page(page.read_text(), ROOT) == page.read_text()


def _fields() -> set[str]:
    """Names that configurations may have."""
    sources = (
        f for name in ("homnet", "platform", "serve", "jobs") for f in (ROOT / name).rglob("*.py")
    )
    names = (re.findall(r"^    (\w+): ", source.read_text(), re.MULTILINE) for source in sources)
    return {name for some in names for name in some}


def test_options_of_commands_are_known() -> None:
    known = _fields() | {"help", "dry_run"}
    for page in PAGES:
        for command in _commands(page.read_text()):
            for option in re.findall(r"(?<=\s)--(?:no-)?([a-z][\w.-]*)", command):
                unknown = set(option.replace("-", "_").split(".")) - known
                assert not unknown, (_name(page), command)


def test_the_page_says_what_the_open_port_of_the_metrics_tells() -> None:
    """A counter by hospital and decision is the verdict on the only patient of a minute."""
    text = (ROOT / "docs" / "endpoint.md").read_text()
    section = text.partition("## Metrics")[2].partition("\n## ")[0]
    assert re.search(r"`ray_homnet_patients_total` \| hospital, decision", section)
    assert "firewall" in section
    assert "all interfaces" in section
    assert "No metric describes a single patient" not in text
