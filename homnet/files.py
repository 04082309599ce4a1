"""Files and directories that appear whole or not at all, and their digests.

Whoever looks finds the old content or the new, also after a crash: what is new is written beside
its place, forced to the disk, and renamed. :class:`Staging` does this for a directory of many files
that takes long to make and must survive being killed.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homnet.errors import DataError


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[Path]:
    """Gives a path to write to; what was written takes the place of ``path`` when all is well.

    Args:
        path: the file; its folder is made.
        mode: permissions of the file. Until it is in place nobody else can read it.

    Raises:
        OSError: the disk is full, or the folder cannot be written to; an older file is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    temporary = folder / path.name
    try:
        yield temporary
        _place(temporary, path, mode)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_whole(path: Path, content: str | bytes, *, mode: int = 0o644) -> Path:
    """Writes a file, replacing an older one at once, and gives its path; see :func:`replacing`."""
    with replacing(path, mode=mode) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """Gives an empty directory to fill; it takes the place of ``path`` when all is well.

    Raises:
        OSError: as :func:`replacing`; an older directory is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield made
        for file in made.rglob("*"):
            _sync(file)
        made.chmod(0o755)
        if path.exists():
            # A directory cannot be renamed onto a full one: the old one makes room first.
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.parent))
            os.replace(path, old)  # noqa: PTH105  (onto the empty directory just made)
            os.replace(made, path)  # noqa: PTH105
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(made, path)  # noqa: PTH105  (Path.rename differs between systems)
        _sync(path.parent)
    finally:
        shutil.rmtree(made, ignore_errors=True)


@dataclass(frozen=True)
class Staging:
    """A directory in the making.

    What is not finished lies beside its final place, in ``.<name>.partial``: ``claim.json`` says
    what is being made, ``content`` holds finished files under their final names, and ``scratch``
    those that are being written. Publishing renames ``content``.

    Any number of processes may write at once, and two runs with the same settings too: every writer
    has a name of its own in ``scratch``, and a file that is made twice is replaced by the same
    bytes. The run that publishes second is told that the directory exists.
    """

    output: Path
    """Where it will be, absolute: processes with other working directories write into it."""

    @property
    def root(self) -> Path:
        """Where everything lies until then."""
        return self.output.with_name(f".{self.output.name}.partial")

    @property
    def content(self) -> Path:
        """What will become :attr:`output`."""
        return self.root / "content"

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Begins, or continues what was begun with the same settings.

        Args:
            settings: everything that the content depends on, JSON-able.

        Raises:
            DataError: the output exists, something else was begun here, or the folder cannot be
                written to.
        """
        if self.output.exists():
            raise _exists(self.output)
        text = json.dumps(settings, indent=1, sort_keys=True)
        with _reported(self.output):
            self.output.parent.mkdir(parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=f"{self.root.name}-", dir=self.output.parent))
            try:
                fresh.chmod(0o755)
                (fresh / "content").mkdir()
                (fresh / "scratch").mkdir()
                (fresh / "claim.json").write_text(text, encoding="utf-8")
                if not self.root.exists():
                    # A directory that is not empty is never replaced: one of two runs that begin
                    # together comes first, and the other compares.
                    os.rename(fresh, self.root)  # noqa: PTH104
            except OSError:
                if not self.root.exists():
                    raise
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
            claim = self.root / "claim.json"
            found = claim.read_text(encoding="utf-8") if claim.is_file() else None
        if found != text:
            raise DataError(
                f"{self.root}: holds unfinished work with other settings or of another version; "
                "finish that, remove the folder, or choose another output"
            )

    @contextmanager
    def writing(self, relative: str) -> Iterator[Path]:
        """Gives a path to write to; the file takes its place in :attr:`content` when all is well.

        Raises:
            DataError: the disk is full, or the folder cannot be written to.
        """
        target = self.content / relative
        with _reported(target):
            folder = Path(tempfile.mkdtemp(dir=self.root / "scratch"))
            temporary = folder / target.name
            try:
                yield temporary
                target.parent.mkdir(parents=True, exist_ok=True)
                _place(temporary, target, 0o644)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def publish(self) -> None:
        """Gives the content its final name and removes the rest.

        Raises:
            DataError: the output exists: another run was faster.
        """
        if self.output.exists():
            raise _exists(self.output)
        try:
            os.replace(self.content, self.output)  # noqa: PTH105  (Path.rename differs by system)
        except OSError:
            if self.output.exists():
                raise _exists(self.output) from None
            raise
        _sync(self.output.parent)
        shutil.rmtree(self.root, ignore_errors=True)


def _place(temporary: Path, path: Path, mode: int) -> None:
    temporary.chmod(mode)
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Forces a file, or the entries of a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exists(output: Path) -> DataError:
    return DataError(f"{output}: exists already; remove it or choose another output")


@contextmanager
def _reported(where: Path) -> Iterator[None]:
    """Turns an operating system's refusal into a sentence."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{where}: cannot be written ({error.strerror or error}); make room or choose another "
            "output, then give the same command again: finished files are kept"
        ) from error
