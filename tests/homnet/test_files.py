"""Files and directories appear whole or not at all, also when a run is killed."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homnet import files
from homnet.errors import ConfigError, DataError, StoreError
from homnet.files import (
    Staging,
    digest_of,
    is_published,
    parse_json,
    replacing,
    replacing_directory,
    require_writable,
    write_whole,
)
from homnet.locations import Location, RemotePath, files_in, to_location

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


def test_of_two_runs_at_once_the_second_is_told(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Staging(staging.output)
    other.claim(SETTINGS)
    for run in (staging, other):
        write(run, "one.txt", "1")
    staging.publish()
    with pytest.raises(DataError, match="exists already"):
        other.publish()
    with pytest.raises(DataError, match="exists already"):
        other.claim(SETTINGS)
    # The first publishes just after the second has looked.
    monkeypatch.setattr(files, "is_published", lambda path: False)
    with pytest.raises(DataError, match="exists already"):
        other.publish()
    assert (staging.output / "one.txt").read_text() == "1"


@pytest.mark.parametrize("relative", ["/one.txt", "../one.txt", "a/../../one.txt"])
def test_a_file_outside_the_output_is_refused(staging: Staging, relative: str) -> None:
    with pytest.raises(DataError, match=r"deep/out: the file .*one\.txt' would be outside"):
        write(staging, relative, "1")
    assert list(staging.output.parent.rglob("one.txt")) == []


@pytest.mark.parametrize(
    ("place", "moment"),
    [
        ("path", "before the end"),
        ("object store", "before the end"),
        ("object store", "during the upload"),
    ],
)
def test_a_new_directory_replaces_none_that_was_published_meanwhile(
    tmp_path: Path,
    bucket: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    moment: str,
) -> None:
    model = to_location(bucket("model")) if place == "object store" else tmp_path / "model"

    def publish(content: str) -> None:
        with replacing_directory(model, last="index", new=True) as made:
            (made / "index").write_text(content)
            (made / "other").write_text(content)

    def second() -> None:
        with replacing_directory(model, last="index", new=True) as made:
            (made / "index").write_text("second")
            (made / "other").write_text("second")
            if moment == "before the end":
                publish("first")
            else:
                look = files.is_published
                monkeypatch.setattr(files, "is_published", late(look))

    def late(look: Callable[[Location], bool]) -> Callable[[Location], bool]:
        def looked(path: Location) -> bool:
            found = look(path)
            monkeypatch.undo()
            publish("first")  # just after the second has looked
            return found

        return looked

    with pytest.raises(DataError, match=r"model.*exists already; remove it or choose another"):
        second()
    assert (model / "index").read_bytes() == (model / "other").read_bytes() == b"first"
    assert is_published(model)


def test_a_disk_is_asked_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_writable(tmp_path / "deep" / "out")
    assert list((tmp_path / "deep" / "out").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/out: cannot be written \(.*\); make room"):
        require_writable(tmp_path / "file" / "out")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"deep: cannot be written \(No space left"):
        require_writable(tmp_path / "deep")


@pytest.fixture(params=["/proc/self/status", "umask()"])
def closed_to_others(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A process whose files nobody but owner and group may read; and two ways to know that."""
    if request.param == "umask()":
        exists = Path.exists
        monkeypatch.setattr(Path, "exists", lambda path: "/proc" not in str(path) and exists(path))
    files._umask.cache_clear()
    before = os.umask(0o027)
    yield
    os.umask(before)
    files._umask.cache_clear()


@pytest.mark.usefixtures("closed_to_others")
def test_permissions_are_those_that_the_process_gives(tmp_path: Path) -> None:
    def mode(path: Path) -> int:
        return path.stat().st_mode & 0o777

    assert mode(write_whole(tmp_path / "folder" / "file", "")) == 0o640
    assert mode(tmp_path / "folder") == 0o750
    with replacing_directory(tmp_path / "model") as made:
        (made / "file").touch()
    assert mode(tmp_path / "model") == 0o750
    staging = Staging(tmp_path / "out")
    staging.claim(SETTINGS)
    assert isinstance(staging.root, Path)
    assert mode(staging.root) == 0o750
    write(staging, "deep/file", "")
    staging.publish()
    assert [mode(tmp_path / "out" / name) for name in ("", "deep", "deep/file")] == [
        0o750,
        0o750,
        0o640,
    ]


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


def test_a_directory_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    with replacing_directory(path) as made:
        (made / "old").touch()
    replace = os.replace

    def fail(source: Path, target: Path) -> None:
        if target == path and "-old-" not in str(source):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"), replacing_directory(path) as made:
        (made / "new").touch()
    assert [file.name for file in path.iterdir()] == ["old"]


def test_what_is_published_was_synced_before_and_its_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash after the renaming must find the content, and the new name."""
    steps: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        steps.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        steps.append(("rename", Path(target).name))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    monkeypatch.setattr(Path, "replace", renamed)
    write_whole(tmp_path / "new" / "file", "x")
    assert steps == [
        ("sync", tmp_path.name),
        ("sync", "file"),
        ("rename", "file"),
        ("sync", "new"),
    ]
    steps.clear()
    with replacing_directory(tmp_path / "folder") as made:
        (made / "deep").mkdir()
        (made / "deep" / "file").touch()
    assert steps[:3] == [("sync", "deep"), ("sync", "file"), ("sync", made.name)]
    assert steps[3:] == [("rename", "folder"), ("sync", tmp_path.name)]
    staging = Staging(tmp_path / "out")
    staging.claim(SETTINGS)
    write(staging, "deep/file", "x")
    steps.clear()
    staging.publish()
    assert ("sync", "content") in steps[: steps.index(("rename", "out"))]
    assert steps[-1] == ("sync", tmp_path.name)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b"\xff", "codec can't decode"),
        (b'{"a": "\xe9"}', "codec can't decode"),
        (b'{"a": 1}\x00', "Extra data"),
        ('{"a": 1}'.encode("utf-16"), "codec can't decode"),
        ('\ufeff{"a": 1}'.encode(), "BOM"),
        (b'{"a": ', "Expecting value"),
        (b'{"a": NaN}', "not finite"),
        (b'{"a": -Infinity}', "not finite"),
        (b'{"a": 1e999}', "not finite"),
        (b'{"a": 1' + b"0" * 400 + b"}", "too large"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "4300"),
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b'{"a": "\\ud800"}', "surrogates not allowed"),
        (b'{"a": ' + b"[" * 100_000, "recursion"),
        (b'{"a": ' * 100_000, "recursion"),
        (b"[1]", "found list"),
        (b"null", "found NoneType"),
        (b'"text"', "found str"),
        (b"7", "found int"),
    ],
)
def test_whatever_is_wrong_with_json_is_one_error(content: bytes, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s)^here: .*{reason}.*; do that$"):
        parse_json(content, "here", error=ConfigError, advice="do that")


def test_json_is_read_as_it_was_written() -> None:
    content = {"a": [1, -0.5, 1e300, None, True, "é\U0001f600"], "b": {"c": {}}}
    for text in (json.dumps(content), json.dumps(content, ensure_ascii=False)):
        assert parse_json(text.encode(), "here") == content


@pytest.mark.parametrize("place", ["path", "uri", "object store"])
def test_a_folder_lists_and_reads_what_was_written(
    tmp_path: Path, place: str, bucket: Callable[[str], str]
) -> None:
    places = {"path": tmp_path, "uri": tmp_path.as_uri(), "object store": bucket("deep/er")}
    root = to_location(places[place])
    assert isinstance(root, RemotePath) == (place == "object store")
    assert files_in(root) == []
    assert files_in(root / "deep") == []
    assert not (root / "deep/a").is_file()
    write_whole(root / "deep/a", b"old")
    write_whole(root / "deep/a", b"new")
    write_whole(root / "deep/.being-written", b"")
    write_whole(root / "b", b"")
    assert (root / "deep/a").read_bytes() == b"new"
    assert (root / "deep/a").is_file()
    assert not (root / "deep").is_file()
    assert files_in(root) == ["b"]
    assert files_in(root / "deep") == ["a"]
    assert files_in(root, recursive=True) == ["b", "deep/a"]
    with pytest.raises(FileNotFoundError):
        (root / "missing").read_bytes()


def _files(location: Location) -> dict[str, bytes]:
    return {name: (location / name).read_bytes() for name in files_in(location, recursive=True)}


def test_a_directory_of_a_store_is_seen_when_its_last_file_is(
    bucket: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = to_location(bucket("model"))
    assert isinstance(model, RemotePath)
    for content in ("old", "new"):
        with replacing_directory(model, last="index") as made:
            (made / "index").write_text(content)
            (made / f"only-{content}").write_text(content)
    assert _files(model) == {"index": b"new", "only-new": b"new"}
    assert is_published(model)
    assert not is_published(model.parent)  # nothing but folders
    write_whole(model.parent / "other" / "kept", "")
    with replacing_directory(model.parent, last="top") as made:
        (made / "top").touch()
    assert set(_files(model.parent)) == {"model/index", "model/only-new", "other/kept", "top"}
    with pytest.raises(FileNotFoundError), replacing_directory(model, last="index") as made:
        (made / "a").touch()
    assert _files(model) == {"index": b"new", "only-new": b"new"}

    write = RemotePath.write_bytes

    def killed_at_b(self: RemotePath, content: bytes) -> int:
        if self.name == "b":
            raise KeyboardInterrupt
        return write(self, content)

    monkeypatch.setattr(RemotePath, "write_bytes", killed_at_b)

    def interrupted() -> None:
        with replacing_directory(model, last="index") as made:
            for name in ("a", "b", "index"):
                (made / name).touch()

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert model.exists()
    assert not is_published(model)
    assert not (model / "index").exists()
    monkeypatch.undo()
    with replacing_directory(model, last="index") as made:
        (made / "index").touch()
    assert _files(model) == {"index": b""}


def test_work_on_a_store_resumes_with_its_settings_and_ends_once(
    bucket: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = to_location(bucket("out"))
    staging = Staging(output)
    staging.claim(SETTINGS)
    write(staging, "deep/one.txt", "1")
    assert not is_published(output)
    with pytest.raises(DataError, match="other settings"):
        Staging(output).claim({"seed": 2})
    with monkeypatch.context() as patch:
        patch.setattr("homnet.files.PROGRAM", 0)
        with pytest.raises(DataError, match="of another version"):
            Staging(output).claim(SETTINGS)
    again = Staging(output)
    again.claim(SETTINGS)
    assert (again.content / "deep/one.txt").read_text() == "1"
    write(again, "index", "deep/one.txt")
    again.publish()
    assert _files(output) == {"deep/one.txt": b"1", "index": b"deep/one.txt"}
    for act in (staging.publish, lambda: staging.claim(SETTINGS)):
        with pytest.raises(DataError, match="exists already"):
            act()


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a", b"abc")
    assert digest_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
