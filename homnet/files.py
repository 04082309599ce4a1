"""Atomic writes of files and directories, strict reading of JSON, and files at URIs.

A reader sees the old content or the new, also after a crash: new content is written beside its
final path, synced to disk, and renamed, and the renaming is synced too. (A directory that replaces
another one takes two renames: a crash between them leaves both beside the path.) :class:`Staging`
does this for a directory of many files whose writing takes long and can be interrupted and resumed.
"""

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import fs

from homnet.errors import DataError, HomNetError

_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape in JSON that can stand for half a character."""


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_json(
    content: bytes,
    where: object,
    *,
    error: type[HomNetError] = DataError,
    advice: str = "run the job that writes it again",
) -> dict[str, Any]:
    """Parses a JSON object strictly; every stored JSON file is read by this function.

    Args:
        content: bytes of the file.
        where: path of the file, for the message.
        error: what is raised.
        advice: what the user can do, for the message.

    Raises:
        HomNetError: ``error``: the content is empty, not UTF-8, not JSON, nested too deeply or not
            an object, has a key twice, half a character, or a number that is not finite in float64.
    """
    try:
        text = content.decode()
        found = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_finite,
            parse_float=_finite,
            parse_int=_whole,
        )
        if _SURROGATE.search(text):
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, OverflowError, RecursionError) as fault:
        raise error(f"{where}: not a JSON file ({str(fault)[:160]}); {advice}") from None
    if not isinstance(found, dict):
        raise error(f"{where}: expected a JSON object, found {type(found).__name__}; {advice}")
    return found


@contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[Path]:
    """Yields a temporary path, which replaces ``path`` if the body succeeds.

    Args:
        path: the file; its parent directory is created.
        mode: permissions of the file. Only its owner can read the temporary file.

    Raises:
        OSError: the disk is full or the directory not writable; an existing file is kept.
    """
    make_folder(path.parent)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    temporary = folder / path.name
    try:
        yield temporary
        _place(temporary, path, mode)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_whole(path: Path, content: str | bytes, *, mode: int = 0o644) -> Path:
    """Writes or replaces a file atomically and returns its path; see :func:`replacing`."""
    with replacing(path, mode=mode) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """Yields an empty temporary directory, which replaces ``path`` if the body succeeds.

    Raises:
        OSError: as :func:`replacing`; an existing directory is kept.
    """
    make_folder(path.parent)
    made = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield made
        made.chmod(0o755)
        _sync_tree(made)
        if path.exists():
            # A directory cannot be renamed onto a non-empty one: the old one is moved away first.
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.parent))
            os.replace(path, old)  # noqa: PTH105  (onto the new empty directory)
            try:
                os.replace(made, path)  # noqa: PTH105
            except OSError:
                os.replace(old, path)  # noqa: PTH105
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(made, path)  # noqa: PTH105  (Path.rename differs between systems)
        sync(path.parent)
    finally:
        shutil.rmtree(made, ignore_errors=True)


class Storage:
    """A folder on a local disk or at a URI that pyarrow knows; its files are written atomically.

    Paths in it are relative and have forward slashes. Names that begin with a dot are being
    written, or were left by a process that was killed. All methods raise OSError.
    """

    def __init__(self, place: str | Path, *, error: type[HomNetError] = DataError) -> None:
        """Opens the place and creates nothing.

        Raises:
            HomNetError: ``error``: pyarrow does not know the URI.
        """
        try:
            if "://" in str(place):
                self._system, self._base = fs.FileSystem.from_uri(str(place))
            else:
                self._system, self._base = fs.LocalFileSystem(), str(Path(place).resolve())
        except (pa.ArrowException, OSError) as fault:
            raise error(
                f"{place}: nothing can be stored there ({fault}); give a path or URI that pyarrow "
                "knows"
            ) from None

    @property
    def local(self) -> Path | None:
        """The folder on a local disk; None elsewhere."""
        return Path(self._base) if isinstance(self._system, fs.LocalFileSystem) else None

    def read(self, path: str) -> bytes:
        """Content of a file."""
        with self._system.open_input_stream(f"{self._base}/{path}") as stream:
            content: bytes = stream.read()
        return content

    def write(self, path: str, content: bytes) -> None:
        """Writes or replaces a file atomically: by renaming, or by the upload of one object."""
        if self.local is not None:
            write_whole(self.local / path, content)
            return
        target = f"{self._base}/{path}"
        parent, _, name = target.rpartition("/")
        # Staged all the same, for file systems such as HDFS that show a file while it is written.
        staged = f"{parent}/.{os.urandom(8).hex()}-{name}"
        self._system.create_dir(parent, recursive=True)
        with self._system.open_output_stream(staged) as stream:
            stream.write(content)
        self._system.move(staged, target)

    def names(self, folder: str = "", *, recursive: bool = False) -> list[str]:
        """Paths of the files in a folder, relative to it and sorted; none if it does not exist."""
        root = f"{self._base}/{folder}".rstrip("/")
        selector = fs.FileSelector(root, allow_not_found=True, recursive=recursive)
        found = self._system.get_file_info(selector)
        files = [info for info in found if info.type == fs.FileType.File]
        return sorted(
            info.path[len(root) + 1 :] for info in files if not info.base_name.startswith(".")
        )

    def is_file(self, path: str) -> bool:
        """Whether there is such a file."""
        (info,) = self._system.get_file_info([f"{self._base}/{path}"])
        return bool(info.type == fs.FileType.File)


@dataclass(frozen=True)
class Staging:
    """A directory that is written file by file and published as a whole.

    Unfinished work is in ``.<name>.partial`` beside the output: ``claim.json`` holds the settings,
    ``content`` the finished files under their final names, and ``scratch`` the files being written.
    Publishing renames ``content``.

    Many processes may write at once, even of two runs with the same settings: every writer has its
    own name in ``scratch``, and a file written twice has the same bytes. The run that publishes
    second gets an error.
    """

    output: Path
    """Final path, absolute because writers may have other working directories."""

    @property
    def root(self) -> Path:
        """Directory of the unfinished work."""
        return self.output.with_name(f".{self.output.name}.partial")

    @property
    def content(self) -> Path:
        """Directory that becomes :attr:`output`."""
        return self.root / "content"

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Starts the work, or resumes work with the same settings.

        Args:
            settings: everything that the content depends on, JSON-serialisable.

        Raises:
            DataError: the output exists, unfinished work has other settings, or the folder is not
                writable.
        """
        if self.output.exists():
            raise _exists(self.output)
        text = json.dumps(settings, indent=1, sort_keys=True)
        with _reported(self.output):
            make_folder(self.output.parent)
            fresh = Path(tempfile.mkdtemp(prefix=f"{self.root.name}-", dir=self.output.parent))
            try:
                fresh.chmod(0o755)
                (fresh / "content").mkdir()
                (fresh / "scratch").mkdir()
                (fresh / "claim.json").write_text(text, encoding="utf-8")
                _sync_tree(fresh)
                if not self.root.exists():
                    # rename() never replaces a non-empty directory: if two runs start together,
                    # one wins and the other compares its settings.
                    os.rename(fresh, self.root)  # noqa: PTH104
                    sync(self.output.parent)
            except OSError:
                if not self.root.exists():
                    raise
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
            claim = self.root / "claim.json"
            found = claim.read_bytes() if claim.is_file() else None
        if found != text.encode():
            raise DataError(
                f"{self.root}: holds unfinished work with other settings or of another version; "
                "finish that, remove the folder, or choose another output"
            )

    @contextmanager
    def writing(self, relative: str) -> Iterator[Path]:
        """Yields a temporary path, which is moved into :attr:`content` if the body succeeds.

        Raises:
            DataError: the disk is full, or the folder is not writable.
        """
        target = self.content / relative
        with _reported(target):
            folder = Path(tempfile.mkdtemp(dir=self.root / "scratch"))
            temporary = folder / target.name
            try:
                yield temporary
                make_folder(target.parent)
                _place(temporary, target, 0o644)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def publish(self) -> None:
        """Renames the content to its final name and removes the rest.

        Raises:
            DataError: the output exists because another run was faster.
        """
        if self.output.exists():
            raise _exists(self.output)
        _sync_tree(self.content)
        try:
            os.replace(self.content, self.output)  # noqa: PTH105  (Path.rename differs by system)
        except OSError:
            if self.output.exists():
                raise _exists(self.output) from None
            raise
        sync(self.output.parent)
        shutil.rmtree(self.root, ignore_errors=True)


def _place(temporary: Path, path: Path, mode: int) -> None:
    temporary.chmod(mode)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def make_folder(path: Path) -> None:
    """Makes a directory and its parents, and syncs their entries, unless it exists."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def _sync_tree(root: Path) -> None:
    for path in (*root.rglob("*"), root):
        sync(path)


def sync(path: Path) -> None:
    """Syncs a file, or the entries of a directory, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"one of the keys {', '.join(found)} stands twice")
    return found


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the number {text[:20]} is not finite")
    return number


def _whole(text: str) -> int:
    number = int(text)
    float(number)  # OverflowError: nothing could be computed with it
    return number


def _exists(output: Path) -> DataError:
    return DataError(f"{output}: exists already; remove it or choose another output")


@contextmanager
def _reported(where: Path) -> Iterator[None]:
    """Turns an OSError into a DataError that says what to do."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{where}: cannot be written ({error.strerror or error}); make room or choose another "
            "output, then repeat the command: finished files are kept"
        ) from error
