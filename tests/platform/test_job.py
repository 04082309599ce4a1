"""How a job starts and ends: recipes, a dry run, and errors as one sentence."""

import errno
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray.exceptions import RayTaskError
from ray.train import WorkerGroupError

from homnet.errors import ConfigError, DataError
from homnet.locations import to_location
from homnet_platform.job import LocationOption, root_cause, run_job


@dataclass(frozen=True)
class Config:
    """What is done."""

    size: int = 1
    """How large."""


def _facts(config: Config) -> Mapping[str, object]:
    return {"area": config.size**2}


def _never(config: Config) -> None:
    raise AssertionError("a dry run does nothing")


def test_a_recipe_is_chosen_by_its_first_word_and_changed_by_options() -> None:
    seen: list[Config] = []
    recipes = {"small": Config(2), "large": Config(9)}
    run_job(recipes, seen.append, description=None, args=["large"])
    run_job(recipes, seen.append, description=None, args=["small", "--size", "3"])
    assert seen == [Config(9), Config(3)]


def test_a_dry_run_prints_config_and_facts(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--size", "4", "--dry-run"]
    run_job(Config, _never, description=None, facts=_facts, args=args)
    config, facts = capsys.readouterr().out.rsplit("}", 1)
    assert json.loads(config + "}") == {"size": 4}
    assert facts.strip() == "area: 16"


@dataclass(frozen=True)
class Nested:
    """What is done, and how."""

    inner: Config = Config()
    """The inner part."""
    outer: int = 2
    """The outer part."""


@pytest.mark.parametrize(
    ("asked", "shown", "hidden"),
    [
        ([], {"--outer", "--help inner", "The inner part."}, {"How large."}),
        (["inner"], {"--inner.size", "How large."}, {"--outer", "--help inner"}),
        (["all"], {"--outer", "How large."}, {"--help inner"}),
        (["--outer", "3"], {"--outer", "--help inner"}, {"How large."}),
    ],
)
def test_help_shows_groups_of_options_when_they_are_asked_for(
    asked: list[str], shown: set[str], hidden: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_job(Nested, print, description="A job.", args=["--help", *asked])
    assert not ended.value.code
    text = capsys.readouterr().out
    assert all(one in text for one in shown)
    assert not any(one in text for one in hidden)


def test_names_are_read_in_one_way_everywhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    with pytest.raises(SystemExit, match="2"):
        run_job(Nested, print, description="A job.", args=[])
    assert "names are read as iso8859-1 here; set LC_ALL=C.UTF-8" in capsys.readouterr().err


def test_a_lack_of_memory_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(config: Nested) -> None:
        raise MemoryError

    with pytest.raises(SystemExit, match="2"):
        run_job(Nested, fails, description="A job.", args=[])
    assert capsys.readouterr().err.startswith("error: there is not enough memory; ")


def test_our_errors_are_one_sentence_and_others_are_raised(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(config: Config) -> None:
        if config.size == 1:
            raise WorkerGroupError("workers failed", {0: ConfigError("too small\nRay's advice")})
        raise ZeroDivisionError

    with pytest.raises(SystemExit) as ended:
        run_job(Config, fails, description=None, args=[])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: too small\n"
    with pytest.raises(ZeroDivisionError):
        run_job(Config, fails, description=None, args=["--size", "2"])


def test_a_full_disk_is_one_sentence_wherever_it_is_met(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fills(config: Config) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/x")

    def errs(config: Config) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file", "x")

    with pytest.raises(SystemExit) as ended:
        run_job(Config, fills, description=None, args=[])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: runs/x: No space left on device; make room")
    with pytest.raises(FileNotFoundError):  # one of ours: its trace is needed
        run_job(Config, errs, description=None, args=[])


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EIO, "see that the disk or network share works"),
        (errno.ESTALE, "see that the disk or network share works"),
        (errno.ENOTCONN, "see that the disk or network share works"),
        (errno.ETIMEDOUT, "see that the disk or network share works"),
        (errno.EHOSTDOWN, "see that the disk or network share works"),
        (errno.ENAMETOOLONG, "choose another path"),
        (errno.ENOTDIR, "choose another path"),
        (errno.EISDIR, "choose another path"),
    ],
)
def test_a_lost_share_or_a_wrong_path_is_one_sentence(
    number: int, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(config: Config) -> None:
        raise OSError(number, "it fails", "share/x")

    with pytest.raises(SystemExit) as ended:
        run_job(Config, fails, description=None, args=[])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: share/x: it fails; {advice}")


@pytest.mark.parametrize("given", [["--key", "secret"], ["--key=secret"], ["--size", "2", "--key"]])
def test_an_option_of_an_earlier_version_says_what_to_use_instead(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_job(Config, _never, description=None, removed={"--key": "use a file"}, args=given)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: there is no option --key any more; use a file\n"


def test_the_cause_is_found_in_rays_wrappers() -> None:
    cause = DataError("a bad row")
    task = RayTaskError("f", "traceback", cause)
    assert root_cause(WorkerGroupError("failed", {0: task})) is cause
    assert root_cause(cause) is cause
    empty = WorkerGroupError("failed", {})
    assert root_cause(empty) is empty


@dataclass(frozen=True)
class Stored:
    """What has a location."""

    output: LocationOption
    """Where."""
    more: tuple[LocationOption, ...] = ()
    """Others."""
    maybe: LocationOption | None = None
    """Perhaps."""
    file: Path | None = None
    """Of this machine."""


def test_locations_are_checked_when_the_command_line_is_read(
    bucket: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[Stored] = []
    given = ["--output", "a/b", "--more", bucket("x"), "c", "--maybe", "None"]
    run_job(Stored, ran.append, description=None, args=given)
    assert ran == [Stored(Path("a/b"), (to_location(bucket("x")), Path("c")))]
    run_job(Stored, print, description=None, args=["--output", bucket("x"), "--dry-run"])
    assert f'"output": "{bucket("x")}"' in capsys.readouterr().out
    run_job(Stored, ran.append, description=None, args=["--output", "a", "--file", "b"])
    assert ran[-1] == Stored(Path("a"), file=Path("b"))
    with pytest.raises(SystemExit):
        run_job(Stored, print, description=None, args=["--output", "a", "--file", bucket("x")])
    assert "x?endpoint_override" in (said := capsys.readouterr().err)
    assert "must be a file or folder of this machine" in said
    for option in ("--output", "--maybe", "--more", "--file"):
        with pytest.raises(SystemExit) as ended:
            run_job(Stored, print, description=None, args=["--output", "a", option, "ftp://host/x"])
        assert ended.value.code == 2
        assert capsys.readouterr().err == (
            "error: ftp://host/x: nothing can be stored there (no store is known by ftp:); give a "
            "path or URI such as s3://bucket/folder or gs://bucket/folder\n"
        )
