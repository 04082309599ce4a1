"""Changes of stored files, one at a time: what disks, copies and people do to them."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

VALUES: Final = (
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"1" + b"0" * 400,
    b"[" * 20_000 + b"]" * 20_000,
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b'"\\ud800"',
    b"-1",
)
"""Values in JSON that a reader may not expect."""


@dataclass(frozen=True)
class Change:
    """A change that was made."""

    kind: str
    """What was done: a name of :data:`KINDS`."""
    paths: tuple[Path, ...]
    """Files that were changed, removed or added."""


def changes(root: Path, rng: np.random.Generator) -> Iterator[Change]:
    """Changes one thing under a directory, yields what, and undoes it; without end.

    Args:
        root: directory with files; nothing else may write there meanwhile.
        rng: draws kind, file and place of each change.
    """
    files = sorted(path for path in root.rglob("*") if path.is_file())
    names = sorted(KINDS)
    while True:
        kind = names[int(rng.integers(len(names)))]
        path = files[int(rng.integers(len(files)))]
        others = [file for file in files if file.suffix == path.suffix and file != path]
        other = others[int(rng.integers(len(others)))] if others else path
        kept = {one: one.read_bytes() for one in (path, other)}
        touched = KINDS[kind](path, other, rng)
        try:
            yield Change(kind, touched)
        finally:
            for one in touched:
                _remove(one)
            for one in set(touched) & set(kept):
                one.write_bytes(kept[one])


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _rewrites(change: Callable[[bytes, np.random.Generator], bytes]) -> "_Kind":
    def make(path: Path, other: Path, rng: np.random.Generator) -> tuple[Path, ...]:
        path.write_bytes(change(path.read_bytes(), rng))
        return (path,)

    return make


def _flipped(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content or b"\0")
    changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(max(len(content), 1)))]


def _zeroed(content: bytes, rng: np.random.Generator) -> bytes:
    first = int(rng.integers(max(len(content), 1)))
    return content[:first] + bytes(min(len(content) - first, 4096))


def _lengthened(content: bytes, rng: np.random.Generator) -> bytes:
    return content + rng.bytes(int(rng.integers(1, 64)))


def _with_value(content: bytes, rng: np.random.Generator) -> bytes:
    """Another value of a field of a JSON object; garbage of other content."""
    value = VALUES[int(rng.integers(len(VALUES)))]
    try:
        found: dict[str, Any] = json.loads(content)
        names = sorted(found)
        found[names[int(rng.integers(len(names)))]] = "@"
        return json.dumps(found).encode().replace(b'"@"', value)
    except (ValueError, TypeError):
        return value


def _removed(path: Path, other: Path, rng: np.random.Generator) -> tuple[Path, ...]:
    path.unlink()
    return (path,)


def _swapped(path: Path, other: Path, rng: np.random.Generator) -> tuple[Path, ...]:
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)
    return (path, other)


def _overwritten(path: Path, other: Path, rng: np.random.Generator) -> tuple[Path, ...]:
    path.write_bytes(other.read_bytes())
    return (path,)


def _renamed(path: Path, other: Path, rng: np.random.Generator) -> tuple[Path, ...]:
    target = path.with_name(f"{path.stem}-{rng.bytes(2).hex()}{path.suffix}")
    path.rename(target)
    return (path, target)


def _copied(path: Path, other: Path, rng: np.random.Generator) -> tuple[Path, ...]:
    target = path.with_name(f"{path.stem}-{rng.bytes(2).hex()}{path.suffix}")
    shutil.copyfile(path, target)
    return (target,)


def _added(path: Path, other: Path, rng: np.random.Generator) -> tuple[Path, ...]:
    target = path.with_name(f"{rng.bytes(4).hex()}{path.suffix}")
    target.write_bytes(rng.bytes(int(rng.integers(100))))
    return (target,)


def _folder_instead(path: Path, other: Path, rng: np.random.Generator) -> tuple[Path, ...]:
    path.unlink()
    path.mkdir()
    return (path,)


def _dead_link(path: Path, other: Path, rng: np.random.Generator) -> tuple[Path, ...]:
    path.unlink()
    path.symlink_to("nowhere")
    return (path,)


_Kind = Callable[[Path, Path, np.random.Generator], tuple[Path, ...]]
KINDS: Final[dict[str, _Kind]] = {
    "flip": _rewrites(_flipped),
    "cut": _rewrites(_cut),
    "empty": _rewrites(lambda content, rng: b""),
    "zeros": _rewrites(_zeroed),
    "lengthen": _rewrites(_lengthened),
    "value": _rewrites(_with_value),
    "remove": _removed,
    "swap": _swapped,
    "overwrite": _overwritten,
    "rename": _renamed,
    "copy": _copied,
    "add": _added,
    "folder": _folder_instead,
    "dead link": _dead_link,
}
"""Functions that change a file, given another one of its kind; they return what they touched."""
