"""Files and directories appear whole or not at all, also when a run is killed."""

import errno
from pathlib import Path

import pytest

from homnet.errors import DataError
from homnet.files import Staging, digest_of, replacing, replacing_directory, write_whole

SETTINGS = {"seed": 1, "size": [2, 3]}


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    begun = Staging(tmp_path / "deep" / "out")
    begun.claim(SETTINGS)
    return begun


def write(staging: Staging, relative: str, text: str) -> None:
    with staging.writing(relative) as temporary:
        temporary.write_text(text)


def test_publishing_shows_all_files_and_leaves_nothing_else(staging: Staging) -> None:
    write(staging, "a/one.txt", "1")
    write(staging, "two.txt", "2")
    assert not staging.output.exists()
    staging.publish()
    found = {str(p.relative_to(staging.output)) for p in staging.output.rglob("*") if p.is_file()}
    assert found == {"a/one.txt", "two.txt"}
    assert list(staging.output.parent.iterdir()) == [staging.output]


def test_the_same_settings_continue_and_keep_what_is_there(staging: Staging) -> None:
    write(staging, "one.txt", "1")
    Staging(staging.output).claim(dict(reversed(SETTINGS.items())))
    assert (staging.content / "one.txt").read_text() == "1"
    assert list(staging.output.parent.iterdir()) == [staging.root]


def test_other_settings_are_refused(staging: Staging) -> None:
    with pytest.raises(DataError, match=r"\.out\.partial: holds unfinished work with other"):
        staging.claim({**SETTINGS, "seed": 2})
    assert staging.content.is_dir()


def test_what_is_cut_off_while_it_is_written_is_not_there(staging: Staging) -> None:
    def interrupted() -> None:
        with staging.writing("one.txt") as temporary:
            temporary.write_text("ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(staging.content.iterdir()) == []


def test_leftovers_of_a_killed_writer_are_not_published(staging: Staging) -> None:
    cut_off = staging.writing("one.txt")
    cut_off.__enter__().write_text("ha")
    write(staging, "two.txt", "2")
    staging.publish()
    assert [path.name for path in staging.output.iterdir()] == ["two.txt"]


def test_of_two_runs_at_once_the_second_is_told(staging: Staging) -> None:
    other = Staging(staging.output)
    other.claim(SETTINGS)
    for run in (staging, other):
        write(run, "one.txt", "1")
    staging.publish()
    with pytest.raises(DataError, match="exists already"):
        other.publish()
    with pytest.raises(DataError, match="exists already"):
        other.claim(SETTINGS)
    assert (staging.output / "one.txt").read_text() == "1"


def test_a_full_disk_is_one_sentence(staging: Staging) -> None:
    with (
        pytest.raises(DataError, match=r"one\.txt: cannot be written \(No space left.*repeat"),
        staging.writing("one.txt"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/out: cannot be written \(.*\); make room"):
        Staging(tmp_path / "file" / "out").claim(SETTINGS)


def test_a_file_is_replaced_whole_or_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    assert write_whole(path, "old") == path
    assert path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(FileNotFoundError), replacing(path):
        pass  # nothing was written
    assert path.read_text() == "old"
    write_whole(path, b"new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_private_file_is_never_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with replacing(path, mode=0o600) as temporary:
        temporary.write_text("secret")
        # The folder around it is closed as long as the file is being written.
        assert temporary.parent.stat().st_mode & 0o077 == 0
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_directory_is_replaced_whole_or_kept(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for content in ("old", "new"):
        with replacing_directory(path) as made:
            (made / content).write_text(content)
    assert [file.name for file in path.iterdir()] == ["new"]
    with pytest.raises(FileNotFoundError), replacing_directory(path) as made:
        (made / "missing").read_text()
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a", b"abc")
    assert digest_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
