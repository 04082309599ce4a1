"""Atomic writes of files and directories, and strict reading of JSON.

A reader sees the old content or the new, also after a crash. On a local disk new content is written
beside its final path, synced to disk, and renamed, and the renaming is synced too. (A directory
that replaces another one takes two renames: a crash between them leaves both beside the path.)
:class:`Staging` does this for a directory of many files whose writing takes long and can be
interrupted and resumed.

An object store has no renaming, but shows an object whole or not at all. A directory there is
written under its final name, first the mark :data:`UNFINISHED`, last the file that its readers ask
for (an index, a list of digests); then the mark is removed. :func:`is_published` says whether a
directory is whole.
"""

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

from homnet import PROGRAM
from homnet.errors import DataError, HomNetError, StoreError
from homnet.locations import Location, RemotePath, files_in

P = TypeVar("P", bound=Location)
UNFINISHED: Final = ".unfinished.json"
"""File in a directory on an object store that is being written: what is written there."""
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape in JSON that can stand for half a character."""
_UMASK_LOCK: Final = threading.Lock()
"""Held while the umask is read where that changes it."""


def digest_of(path: Location) -> str:
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
            object_pairs_hook=unique_keys,
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
def replacing(path: Location, *, mode: int | None = None) -> Iterator[Path]:
    """Yields a temporary local path, whose file replaces ``path`` if the body succeeds.

    Args:
        path: the file; its parent directory is created.
        mode: permissions of a local file, by default those that the process gives to new files.
            Only its owner can read the temporary file.

    Raises:
        OSError: the disk is full or the directory not writable; an existing file is kept.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory() as directory:
            temporary = Path(directory) / path.name
            yield temporary
            path.write_bytes(temporary.read_bytes())
        return
    make_folder(path.parent)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    temporary = folder / path.name
    try:
        yield temporary
        _place(temporary, path, mode)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_whole(path: P, content: str | bytes) -> P:
    """Writes or replaces a file atomically and returns its path; see :func:`replacing`."""
    content = content.encode() if isinstance(content, str) else content
    if isinstance(path, RemotePath):
        path.write_bytes(content)
        return path
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path


@contextmanager
def replacing_directory(path: Location, *, last: str = "", new: bool = False) -> Iterator[Path]:
    """Yields an empty temporary local directory, which replaces ``path`` if the body succeeds.

    Args:
        path: the directory; its parents are created.
        last: the file of it without which no reader believes the others; empty if there is none.
        new: whether nothing may be replaced, not even what another run published during the body.

    Raises:
        DataError: ``new`` is set, and there is such a directory.
        OSError: as :func:`replacing`; an existing directory is kept. On an object store an existing
            one is unreadable from the upload of the first file to that of the last.
    """
    if isinstance(path, RemotePath):
        require_writable(path)
        with tempfile.TemporaryDirectory() as directory:
            yield Path(directory)
            _upload(Path(directory), path, last, new=new)
        return
    make_folder(path.parent)
    made = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield made
        made.chmod(_allowed(0o777))
        _sync_tree(made)
        if new:
            _rename_to_new(made, path)
        elif path.exists():
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


def _rename_to_new(made: Path, path: Path) -> None:
    """Renames a directory; raises DataError if there is already something of this name."""
    try:
        # rename() never replaces a file or a non-empty directory.
        os.replace(made, path)  # noqa: PTH105  (Path.rename differs between systems)
    except OSError:
        if path.exists():
            raise _exists(path) from None
        raise


def _upload(made: Path, target: RemotePath, last: str, *, new: bool) -> None:
    """Copies a directory to an object store, ``last`` last, and removes other files beside it.

    Raises:
        DataError: ``new`` is set, and another run has published there.
    """
    files = {one.relative_to(made).as_posix(): one for one in made.rglob("*") if one.is_file()}
    if last and last not in files:
        raise FileNotFoundError(f"{target / last}: nobody has written this file")
    if new and is_published(target):
        raise _exists(target)
    stale = set(files_in(target)) - set(files)  # no deeper: other things may be there
    mine = json.dumps({"run": uuid.uuid4().hex}).encode()

    def refuse_two() -> None:
        """Raises DataError if another run has published meanwhile, or writes here now."""
        if not (new and last):
            return
        try:
            marked = (target / UNFINISHED).read_bytes()
        except FileNotFoundError:  # the other has published, or given way
            marked = b""
        published = (target / last).is_file()
        if published and marked == mine:
            (target / UNFINISHED).unlink(missing_ok=True)
        if published:
            raise _exists(target)
        if marked != mine:
            raise DataError(
                f"{target}: another run writes there now; wait for it, or choose another output"
            )

    write_whole(target / UNFINISHED, mine)
    if last and not new:
        (target / last).unlink(missing_ok=True)
    for relative in sorted(set(files) - {last}):
        refuse_two()
        write_whole(target / relative, files[relative].read_bytes())
    for relative in stale:
        (target / relative).unlink(missing_ok=True)
    refuse_two()
    if last:
        write_whole(target / last, files[last].read_bytes())
    (target / UNFINISHED).unlink(missing_ok=True)


def require_writable(location: Location) -> None:
    """Asks a store or disk to take a file, before work whose result it shall keep.

    Args:
        location: the directory. On a disk it is made.

    Raises:
        StoreError: it refuses.
    """
    if isinstance(location, RemotePath):
        # Another job may ask at the same time.
        write_whole(location / ".writable", b"").unlink(missing_ok=True)
        return
    try:
        make_folder(location)
        with tempfile.TemporaryFile(dir=location) as file:
            file.write(b"0" * 4096)
            file.flush()
            os.fsync(file.fileno())  # some file systems refuse only then
    except OSError as error:
        raise StoreError(
            f"{location}: cannot be written ({error.strerror or error}); make room or give "
            "access, or choose another output"
        ) from None


def is_published(path: Location) -> bool:
    """Whether there is a directory that is not still being written; on a store, one with files."""
    if isinstance(path, RemotePath):
        return not (path / UNFINISHED).is_file() and bool(files_in(path))
    return path.exists()


@dataclass(frozen=True)
class Staging:
    """A directory that is written file by file and published as a whole.

    Unfinished work is in ``.<name>.partial`` beside the output: ``claim.json`` holds the settings,
    ``content`` the finished files under their final names, and ``scratch`` the files being written.
    Publishing renames ``content``. On an object store the files are written under their final
    paths, the mark :data:`UNFINISHED` holds the settings, and publishing removes it: write last the
    file that readers ask for first.

    Many processes may write at once, even of two runs with the same settings: every writer has its
    own name in ``scratch``, and a file written twice has the same bytes. The run that publishes
    second gets an error.
    """

    output: Location
    """Final place, absolute because writers may have other working directories."""

    @property
    def root(self) -> Location:
        """Directory of the unfinished work."""
        if isinstance(self.output, RemotePath):
            return self.output
        return self.output.with_name(f".{self.output.name}.partial")

    @property
    def content(self) -> Location:
        """Directory that becomes :attr:`output`."""
        return self.root if isinstance(self.output, RemotePath) else self.root / "content"

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Starts the work, or resumes work with the same settings.

        Args:
            settings: everything that the content depends on beside the program,
                JSON-serialisable.

        Raises:
            DataError: the output exists, unfinished work has other settings or is of another
                program, or the folder is not writable.
        """
        if is_published(self.output):
            raise _exists(self.output)
        text = json.dumps({"program": PROGRAM, **settings}, indent=1, sort_keys=True)
        with _reported(self.output):
            if isinstance(self.root, RemotePath):
                claim: Location = self.root / UNFINISHED
                if not claim.is_file():
                    write_whole(claim, text)
            else:
                claim = self.root / "claim.json"
                self._begin(self.root, text)
            found = claim.read_bytes() if claim.is_file() else None
        if found != text.encode():
            raise DataError(
                f"{self.root}: holds unfinished work with other settings or of another version; "
                "finish that, remove the folder, or choose another output"
            )

    def _begin(self, root: Path, text: str) -> None:
        """Makes the local directory of the unfinished work, unless another run did."""
        make_folder(root.parent)
        fresh = Path(tempfile.mkdtemp(prefix=f"{root.name}-", dir=root.parent))
        try:
            fresh.chmod(_allowed(0o777))
            (fresh / "content").mkdir()
            (fresh / "scratch").mkdir()
            (fresh / "claim.json").write_text(text, encoding="utf-8")
            _sync_tree(fresh)
            if not root.exists():
                # rename() never replaces a non-empty directory: if two runs start together, one
                # wins and the other compares its settings.
                os.rename(fresh, root)  # noqa: PTH104
                sync(root.parent)
        except OSError:
            if not root.exists():
                raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    @contextmanager
    def writing(self, relative: str) -> Iterator[Path]:
        """Yields a temporary local path; its file gets into :attr:`content` if the body succeeds.

        Raises:
            DataError: the disk is full, the folder is not writable, or the path leaves the output.
        """
        inside = PurePosixPath(relative)
        if inside.is_absolute() or ".." in inside.parts:
            raise DataError(f"{self.output}: the file {relative!r} would be outside; rename it")
        target = self.content / relative
        with _reported(target):
            if isinstance(target, RemotePath):
                with replacing(target) as temporary:
                    yield temporary
                return
            folder = Path(tempfile.mkdtemp(dir=str(self.root / "scratch")))
            temporary = folder / target.name
            try:
                yield temporary
                make_folder(target.parent)
                _place(temporary, target)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def publish(self) -> None:
        """Renames the content to its final name and removes the rest, or the mark.

        Raises:
            DataError: the output exists because another run was faster.
        """
        if is_published(self.output):
            raise _exists(self.output)
        root = self.root
        if isinstance(root, RemotePath):
            (root / UNFINISHED).unlink(missing_ok=True)
            return
        content = root / "content"
        try:
            _sync_tree(content)
            os.replace(content, str(self.output))  # noqa: PTH105  (Path.rename differs by system)
        except OSError:
            if self.output.exists():
                raise _exists(self.output) from None
            raise
        sync(root.parent)
        shutil.rmtree(root, ignore_errors=True)


def _place(temporary: Path, path: Path, mode: int | None = None) -> None:
    temporary.chmod(_allowed(0o666) if mode is None else mode)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def _allowed(mode: int) -> int:
    """The permissions that a new file or folder of this process has."""
    return mode & ~_umask()


@cache
def _umask() -> int:
    """The permissions that the process withholds, as they were when it was first asked for."""
    status = Path("/proc/self/status")
    said = status.read_text("latin-1") if status.exists() else ""  # only Linux has it
    if found := re.search(r"^Umask:\s*([0-7]+)$", said, re.MULTILINE):
        return int(found[1], 8)
    # Elsewhere it must be changed to be known. What other threads make meanwhile is private.
    with _UMASK_LOCK:
        mask = os.umask(0o077)
        os.umask(mask)
    return mask


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


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs, for ``json.loads``.

    Raises:
        ValueError: a key stands twice.
    """
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


def _exists(output: Location) -> DataError:
    return DataError(f"{output}: exists already; remove it or choose another output")


@contextmanager
def _reported(where: Location) -> Iterator[None]:
    """Turns an OSError into a DataError that says what to do."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{where}: cannot be written ({error.strerror or error}); make room or choose another "
            "output, then repeat the command: finished files are kept"
        ) from error
