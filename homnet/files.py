"""Atomic writes of files and directories, and file digests.

A reader sees the old content or the new, also after a crash: new content is written beside its
final path, synced to disk, and renamed. :class:`Staging` does this for a directory of many files
whose writing takes long and can be interrupted and resumed.
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
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[Path]:
    """Yields a temporary path, which replaces ``path`` if the body succeeds.

    Args:
        path: the file; its parent directory is created.
        mode: permissions of the file. Only its owner can read the temporary file.

    Raises:
        OSError: the disk is full or the directory not writable; an existing file is kept.
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
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield made
        for file in made.rglob("*"):
            _sync(file)
        made.chmod(0o755)
        if path.exists():
            # A directory cannot be renamed onto a non-empty one: the old one is moved away first.
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.parent))
            os.replace(path, old)  # noqa: PTH105  (onto the new empty directory)
            os.replace(made, path)  # noqa: PTH105
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(made, path)  # noqa: PTH105  (Path.rename differs between systems)
        _sync(path.parent)
    finally:
        shutil.rmtree(made, ignore_errors=True)


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
            self.output.parent.mkdir(parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=f"{self.root.name}-", dir=self.output.parent))
            try:
                fresh.chmod(0o755)
                (fresh / "content").mkdir()
                (fresh / "scratch").mkdir()
                (fresh / "claim.json").write_text(text, encoding="utf-8")
                if not self.root.exists():
                    # rename() never replaces a non-empty directory: if two runs start together,
                    # one wins and the other compares its settings.
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
                target.parent.mkdir(parents=True, exist_ok=True)
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
    """Syncs a file, or the entries of a directory, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
