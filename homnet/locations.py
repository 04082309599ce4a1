"""Places to read and write: paths of this machine, and URIs of object stores (S3, Google Cloud).

:func:`to_location` turns what a user gave into a :class:`pathlib.Path` or a :class:`RemotePath`,
which has the same methods, as far as they are used here. What opens files by their name gets a
local copy (:func:`local_copy`); what writes goes through :mod:`homnet.files`.
"""

import io
import re
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias, cast
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from homnet.errors import ConfigError, DataError, HomNetError, StoreError, first_line

_URI: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/.*", re.DOTALL)
"""A scheme of two letters or more (one letter is a drive) and a slash."""
_STORES: Final = ("s3", "gs", "gcs")
_ADVICE: Final = "give a path or URI such as s3://bucket/folder or gs://bucket/folder"
_LONGEST: Final = 220
"""Characters of what pyarrow says of a store."""
_PROBE_S: Final = 10
"""Seconds until a store that does not answer is given up; pyarrow asks Google for 15 minutes."""


class _Size(NamedTuple):
    st_size: int


class RemotePath:
    """A file or folder of an object store, with the methods of :class:`pathlib.Path` that we use.

    Folders exist if there is something in them. Methods raise StoreError if the store does not
    answer or refuses, and else what those of a path raise. Pickles with its file system, so a
    worker on another node asks the same endpoint, with the credentials of its own environment.
    """

    def __init__(self, system: fs.FileSystem, key: str, scheme: str, query: str) -> None:
        self.system = system
        """pyarrow's file system."""
        self.key = key
        """Bucket and path, which is what ``system`` takes."""
        self._scheme, self._query = scheme, query

    def at(self, key: str) -> "RemotePath":
        """Another key of the same file system, for example one that Ray returns."""
        return RemotePath(self.system, key, self._scheme, self._query)

    def __str__(self) -> str:
        return f"{self._scheme}{self.key}{self._query}"

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, part: object) -> "RemotePath":
        return self.at(_joined(self.key, str(part)))

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.rpartition("/")[2]

    @property
    def parts(self) -> tuple[str, ...]:
        """Store, bucket and folders."""
        return (self._scheme, *self.key.split("/"))

    @property
    def parent(self) -> "RemotePath":
        """The folder; a bucket is its own."""
        return self.at(self.key.rpartition("/")[0] or self.key)

    @property
    def parents(self) -> tuple["RemotePath", ...]:
        """The folders above, the nearest first; the bucket, the last, stands twice."""
        above = [self.parent]
        while above[-1].parent != above[-1]:
            above.append(above[-1].parent)
        return (*above, above[-1])

    def with_name(self, name: str) -> "RemotePath":
        """The place beside this one with another name."""
        return self.parent / name

    def absolute(self) -> "RemotePath":
        """This place: a URI is the same everywhere."""
        return self

    resolve = absolute

    @contextmanager
    def asking(self) -> Iterator[fs.FileSystem]:
        """Yields the file system; what it raises becomes one sentence with this location."""
        try:
            yield self.system
        except FileNotFoundError:
            raise
        except OSError as fault:
            raise StoreError(
                f"{self}: the store does not answer or refuses ({_first_sentence(fault)}); give "
                "access to it, then repeat the command"
            ) from None

    def _info(self) -> fs.FileInfo:
        with self.asking() as system:
            (info,) = system.get_file_info([self.key])
        return info

    def exists(self) -> bool:
        """Whether there is a file, or something in a folder."""
        return bool(self._info().type != fs.FileType.NotFound)

    def is_file(self) -> bool:
        """Whether there is a file."""
        return bool(self._info().type == fs.FileType.File)

    def is_dir(self) -> bool:
        """Whether there is something in this folder."""
        return bool(self._info().type == fs.FileType.Directory)

    def stat(self) -> _Size:
        """Size of the file in bytes, as ``st_size``."""
        info = self._info()
        if info.type != fs.FileType.File:
            raise FileNotFoundError(f"{self}: there is no such file")
        return _Size(info.size)

    def iterdir(self) -> Iterator["RemotePath"]:
        """The files and folders in this folder."""
        return (self.at(info.path) for info in self.listed())

    def listed(self, *, recursive: bool = False) -> list[fs.FileInfo]:
        """What pyarrow says of the files and folders in this folder; nothing if there is none."""
        selector = fs.FileSelector(self.key, allow_not_found=True, recursive=recursive)
        with self.asking() as system:
            found: list[fs.FileInfo] = system.get_file_info(selector)
        return found

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """The file, to read; ``mode`` is ``rb``."""
        if mode != "rb":
            raise ValueError(f"{self}: objects are written whole, not opened with mode {mode!r}")
        with self.asking() as system:
            return cast(io.BufferedReader, system.open_input_file(self.key))

    def read_bytes(self) -> bytes:
        """Content of the file."""
        with self.asking() as system, system.open_input_stream(self.key) as stream:
            content: bytes = stream.read()
        return content

    def read_text(self, encoding: str = "utf-8") -> str:
        """Content of a text file."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> int:
        """Writes or replaces the object; it is seen whole or not at all."""
        with self.asking() as system, system.open_output_stream(self.key) as stream:
            stream.write(content)
        return len(content)

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the object."""
        try:
            with self.asking() as system:
                system.delete_file(self.key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Does nothing: an object needs no folder."""


Location: TypeAlias = Path | RemotePath
"""A path of this machine, or a place on an object store."""


def to_location(where: str | Location, *, error: type[HomNetError] = ConfigError) -> Location:
    """The place that a path or URI names.

    A bucket is asked for once per process, so that a wrong one is refused before work begins.
    ``s3://bucket/folder?endpoint_override=http://host:9000`` names another endpoint, as does the
    variable AWS_ENDPOINT_URL; pyarrow lists the other options.

    Raises:
        HomNetError: ``error``: the URI is not one, nobody knows its scheme, the bucket does not
            exist, or the store does not answer or gives no access.
    """
    if isinstance(where, RemotePath):
        return where
    uri = _URI.fullmatch(str(where))
    if uri is None:
        return Path(where)

    def refused(reason: object, advice: str = _ADVICE) -> HomNetError:
        return error(f"{where}: nothing can be stored there ({reason}); {advice}")

    scheme, parts = uri[1].lower(), urlsplit(str(where), allow_fragments=False)
    if scheme == "file" and not parts.netloc and not parts.query:
        return Path(fs.FileSystem.from_uri(f"file:{parts.path}")[1])
    if scheme not in _STORES:
        raise refused(f"no store is known by {scheme}:")
    if not str(where).startswith(f"{uri[1]}://") or not parts.netloc:
        raise refused(f"no bucket follows {scheme}://")
    if scheme == "s3" and "@" in parts.netloc:
        # The place is printed and stored.
        raise error(
            f"{scheme}://...@{parts.netloc.rpartition('@')[2]}{parts.path}: a key stands in the "
            "URI; give it in the environment, for example as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )
    if ".." in parts.path.split("/"):
        raise refused("'..' leaves the folder")
    query = f"?{parts.query}" if parts.query else ""
    try:
        system = _opened(scheme, parts.netloc, query)
    except FileNotFoundError as fault:
        raise refused(fault, "make the bucket, or give a path or URI of one that exists") from None
    except OSError as fault:
        raise refused(
            _first_sentence(fault),
            "give access (network, credentials in the environment, AWS_ENDPOINT_URL for a server "
            "of your own), or give a path",
        ) from None
    except (pa.ArrowException, ValueError) as fault:
        raise refused(_first_sentence(fault)) from None
    user, at, bucket = parts.netloc.rpartition("@")
    return RemotePath(system, _joined(bucket, parts.path), f"{scheme}://{user}{at}", query)


def local_path(where: str | Location) -> Path:
    """The path of this machine that is named, for what no store can take.

    Raises:
        ConfigError: it is a URI of a store, or see :func:`to_location`.
    """
    location = to_location(where)
    if isinstance(location, RemotePath):
        raise ConfigError(f"{location}: this must be a file or folder of this machine; give a path")
    return location


@cache
def _opened(scheme: str, bucket: str, query: str) -> fs.FileSystem:
    """The file system of a bucket that exists; raises OSError or ArrowException."""
    uri = f"{scheme}://{bucket}{query or '?'}"
    if scheme == "s3":
        # A small object is then one request instead of three.
        system = probe = fs.FileSystem.from_uri(f"{uri}&allow_delayed_open=true")[0]
    else:
        system = fs.FileSystem.from_uri(uri)[0]
        probe = fs.FileSystem.from_uri(f"{uri}&retry_limit_seconds={_PROBE_S}")[0]
    (info,) = probe.get_file_info([bucket.rpartition("@")[2]])
    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError(f"there is no bucket {bucket}")
    return system


def _joined(key: str, path: str) -> str:
    return "/".join([key, *(part for part in path.split("/") if part not in ("", "."))])


def _first_sentence(fault: Exception) -> str:
    """A message of pyarrow without its list of every attempt."""
    said = first_line(fault).partition(" error_info=")[0]
    return textwrap.shorten(said, _LONGEST, placeholder=" ...").rstrip(". ")


@contextmanager
def local_copy(place: Location, names: Iterable[str]) -> Iterator[Path]:
    """Yields a local folder with some files of a folder: the folder itself if it is local.

    Raises:
        OSError: a file cannot be copied.
    """
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory() as directory:
        for name in names:
            (Path(directory) / name).write_bytes((place / name).read_bytes())
        yield Path(directory)


def files_in(folder: Location, *, recursive: bool = False) -> list[str]:
    """Paths of the files in a folder, relative to it and sorted; none if it does not exist.

    Files whose own name begins with a dot are left out: they are being written, or were left by a
    process that was killed.

    Raises:
        OSError: the folder cannot be listed.
        DataError: a name is not UTF-8.
    """
    if isinstance(folder, Path):
        root = str(folder)
        selector = fs.FileSelector(root, allow_not_found=True, recursive=recursive)
        found = fs.LocalFileSystem().get_file_info(selector)
    else:
        root, found = folder.key, folder.listed(recursive=recursive)
    files = [info for info in found if info.type == fs.FileType.File]
    try:
        return sorted(
            info.path[len(root) + 1 :] for info in files if not info.base_name.startswith(".")
        )
    except UnicodeDecodeError:
        raise DataError(f"{folder}: the name of a file is not UTF-8; rename it") from None


def first_missing(files: Sequence[Location]) -> Location | None:
    """The first of some files of one folder that is not there; asks a store for all at once."""
    keys = [one.key for one in files if isinstance(one, RemotePath)]
    if files and isinstance(files[0], RemotePath):
        with files[0].asking() as system:
            kinds = [info.type == fs.FileType.File for info in system.get_file_info(keys)]
    else:
        kinds = [one.is_file() for one in files]
    return next((one for one, there in zip(files, kinds, strict=True) if not there), None)


def in_memory(place: Location) -> io.BytesIO:
    """Content of a file, for readers that seek in it."""
    return io.BytesIO(place.read_bytes())
