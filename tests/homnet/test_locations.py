"""Paths and URIs: what names a place, what is refused, and that both kinds behave alike."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from pyarrow import fs

from homnet.errors import ConfigError, RegistryError, StoreError
from homnet.files import digest_of, is_published, require_writable, write_whole
from homnet.locations import (
    Location,
    RemotePath,
    files_in,
    first_missing,
    in_memory,
    local_copy,
    to_location,
)


@pytest.fixture(params=["disk", "store"])
def folder(
    request: pytest.FixtureRequest, tmp_path: Path, bucket: Callable[[str], str]
) -> Location:
    """An empty folder of each kind."""
    return to_location(tmp_path / "x" if request.param == "disk" else bucket("x"))


def test_both_kinds_have_the_same_methods_and_answers(folder: Location) -> None:
    assert not folder.exists()
    assert files_in(folder) == []
    file = write_whole(folder / "a" / "b.txt", "text")
    write_whole(folder / ".hidden", "")
    write_whole(folder / "c", b"12345")
    assert file.name == "b.txt"
    assert file == folder / "a/b.txt"
    assert hash(file) == hash(folder / "a" / "b.txt")
    assert folder in file.parents
    assert file.parent == folder / "a"
    assert file.with_name("d") == folder / "a/d"
    assert file.absolute() == file.resolve() == file
    assert file.parts[-2:] == ("a", "b.txt")
    assert (file.exists(), file.is_file(), file.is_dir()) == (True, True, False)
    assert (folder.exists(), folder.is_file(), folder.is_dir()) == (True, False, True)
    assert file.read_bytes() == b"text"
    assert file.read_text(encoding="utf-8") == "text"
    assert in_memory(file).read() == b"text"
    with file.open("rb") as stream:
        assert stream.read(2) == b"te"
    assert (folder / "c").stat().st_size == 5
    assert digest_of(file) == hashlib.sha256(b"text").hexdigest()
    assert sorted(one.name for one in folder.iterdir()) == [".hidden", "a", "c"]
    assert files_in(folder) == ["c"]
    assert files_in(folder, recursive=True) == ["a/b.txt", "c"]
    assert first_missing([file, folder / "c"]) is None
    assert first_missing([file, folder / "a", folder / "d"]) == folder / "a"
    with local_copy(folder, ["c"]) as copy:
        assert isinstance(copy, Path)
        assert (copy / "c").read_bytes() == b"12345"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "c").unlink()
    (folder / "c").unlink(missing_ok=True)
    for read in (
        (folder / "c").read_bytes,
        (folder / "c").stat,
        (folder / "c").unlink,
        lambda: (folder / "c").open("rb"),
    ):
        with pytest.raises(FileNotFoundError):
            read()
    assert to_location(str(file)) == to_location(file) == pickle.loads(pickle.dumps(file)) == file


@pytest.mark.parametrize("name", ["a b", "hospital=Z\u00fcrich", "100%", "a+b", "a%20b", "a#b"])
def test_names_are_taken_as_they_are(folder: Location, name: str) -> None:
    write_whole(folder / name / name, name)
    assert files_in(to_location(str(folder / name))) == [name]
    assert to_location(str(folder / name / name)).read_text(encoding="utf-8") == name


@pytest.mark.parametrize(
    ("where", "path"),
    [
        ("a", "a"),
        ("./a//b/", "a/b"),
        ("/a:/b", "/a:/b"),
        ("a:b", "a:b"),
        ("C:/a", "C:/a"),
        ("file:///a/b", "/a/b"),
        ("FILE:/a", "/a"),
        (Path("a"), "a"),
    ],
)
def test_paths_stay_paths(where: str | Path, path: str) -> None:
    assert to_location(where) == Path(path)


def test_a_uri_is_brought_into_one_form(bucket: Callable[[str], str]) -> None:
    plain = bucket("a/b")
    for written in ("a//b", "/a/b/", "./a/b"):
        assert to_location(bucket(written)) == to_location(plain)
    assert str(to_location(plain.replace("s3:", "S3:"))) == plain
    assert str(to_location(plain) / "c") == bucket("a/b/c")
    root = to_location(bucket(""))
    assert root.parent == root
    assert str(root / "a") == bucket("a")


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("ftp://host/x", "no store is known by ftp:"),
        ("http://host/x", "no store is known by http:"),
        ("hdfs://host:8020/x", "no store is known by hdfs:"),
        ("abfs://container@account/x", "no store is known by abfs:"),
        ("s33://bucket/x", "no store is known by s33:"),
        ("file://host/x", "no store is known by file:"),
        ("s3:/bucket/x", "no bucket follows s3://"),
        (Path("s3://bucket/x"), "no bucket follows s3://"),
        ("s3://", "no bucket follows s3://"),
        ("s3:///x", "no bucket follows s3://"),
        ("gs:/bucket", "no bucket follows gs://"),
        ("s3://bucket/a/../../b", "leaves the folder"),
        ("s3://bucket/x?nonsense=1", "nonsense"),
        ("s3://buc ket/x", "Cannot parse URI"),
    ],
)
def test_what_names_no_store_is_one_sentence(where: str | Path, reason: str) -> None:
    with pytest.raises(
        RegistryError, match=f"nothing can be stored there .*{reason}.* give a path"
    ) as caught:
        to_location(where, error=RegistryError)
    assert "\n" not in str(caught.value)


def test_keys_in_a_uri_are_refused_and_not_shown() -> None:
    with pytest.raises(
        ConfigError, match=r"s3://\.\.\.@bucket/x: a key stands in the URI"
    ) as caught:
        to_location("s3://name:secret@bucket/x")
    assert "secret" not in str(caught.value)


def test_a_bucket_that_does_not_exist_is_refused_at_once(s3_server: str) -> None:
    with pytest.raises(ConfigError, match=r"there is no bucket nobody-made-it.*; make the bucket"):
        to_location(f"s3://nobody-made-it/x?endpoint_override={s3_server}")


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_without_access_the_reason_is_one_sentence(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Refusing:
        def get_file_info(self, keys: list[str]) -> None:
            raise OSError("When asking: AWS Error ACCESS_DENIED during HeadBucket\nRequest 7")

    class FileSystem:
        @staticmethod
        def from_uri(uri: str) -> tuple[Refusing, str]:
            asked.append(uri)
            return Refusing(), ""

    monkeypatch.setattr(fs, "FileSystem", FileSystem)
    with pytest.raises(
        ConfigError, match=r"there \(When asking.*HeadBucket\); give access"
    ) as caught:
        to_location(f"{scheme}://closed/x")
    assert "\n" not in str(caught.value)
    # Google is asked for ten seconds, not for fifteen minutes.
    assert asked[-1].endswith("retry_limit_seconds=10") == (scheme == "gs")


def test_the_usual_variable_names_the_endpoint_too(
    bucket: Callable[[str], str], s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_whole(to_location(bucket("x/a")), "text")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    assert to_location(bucket("x/a").partition("?")[0]).read_text(encoding="utf-8") == "text"


def test_a_store_that_refuses_is_one_sentence_whatever_is_asked(
    bucket: Callable[[str], str],
) -> None:
    class Refusing:
        def __getattr__(self, name: str) -> NoReturn:
            raise OSError(f"When asking: AWS Error ACCESS_DENIED during {name}\nRequest 7")

    open_one = to_location(bucket("x/a"))
    assert isinstance(open_one, RemotePath)
    closed = RemotePath(Refusing(), open_one.key, "s3://", "")
    for ask in (
        closed.exists,
        closed.read_bytes,
        closed.unlink,
        closed.iterdir,
        closed.open,
        lambda: closed.write_bytes(b""),
        lambda: files_in(closed),
        lambda: first_missing([closed]),
        lambda: require_writable(closed),
    ):
        with pytest.raises(
            StoreError, match=r"x/a.*: the store .* refuses \(When.*give access"
        ) as caught:
            ask()
        assert isinstance(caught.value, OSError)
        assert "\n" not in str(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    require_writable(open_one)
    assert not is_published(open_one)
    assert files_in(open_one.parent, recursive=True) == []


def test_objects_are_only_written_whole(bucket: Callable[[str], str]) -> None:
    remote = to_location(bucket("x"))
    assert isinstance(remote, RemotePath)
    with pytest.raises(ValueError, match="written whole"):
        remote.open("wb")
