"""Entry point of jobs: command line from the config dataclass, dry run, one-line errors."""

import contextlib
import dataclasses
import errno
import io
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import tyro

from homnet.errors import ConfigError, HomNetError, first_line
from homnet.locations import Location, local_path, to_location

C = TypeVar("C")

LocationOption: TypeAlias = Annotated[
    Location,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH|URI",
        instance_from_str=lambda args: to_location(args[0]),
        is_instance=lambda value: isinstance(value, Location),
        str_from_instance=lambda place: [str(place)],
    ),
]
"""Field of a config for a path or URI, which is checked when the command line is parsed."""

_NO_ROOM: Final = "make room or give access, or choose another place"
_LOST: Final = "see that the disk or network share works, then repeat the command"
_NO_SUCH_PLACE: Final = "choose another path"
_OF_THE_DISK: Final = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT), _NO_ROOM),
    **dict.fromkeys(
        (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN), _LOST
    ),
    **dict.fromkeys((errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR), _NO_SUCH_PLACE),
}
"""Errors of files that a user can cause or mend wherever something is read or written, and how."""
_GROUP: Final = re.compile(r"^ ([\w.-]+) options\n -+\n  (.*)\n(?:(?:  .*)?\n)*", re.MULTILINE)
"""An option group in tyro's help: name, first line of its text, options."""


def run_job(
    config: type[C] | Mapping[str, C],
    main: Callable[[C], object],
    *,
    description: str | None,
    facts: Callable[[C], Mapping[str, object]] | None = None,
    removed: Mapping[str, str] | None = None,
    args: Sequence[str] | None = None,
) -> None:
    """Parses the command line, runs a job and exits the process.

    Exit codes: 0 success, 2 an error that the user can fix (one sentence on stderr).

    Args:
        config: a frozen config dataclass, or recipes by name: the first word on the command line
            then selects one, and options override its fields.
        main: the job.
        description: text of ``--help``, the job's docstring. A line that begins with ``python``
            is a command. Options of nested configs are shown by ``--help GROUP`` only.
        facts: what ``--dry-run`` prints beside the resolved config, for example its cost.
        removed: options of earlier versions, and what to use instead; their values are not printed.
        args: command line; that of the process by default.
    """
    chosen = (
        config
        if isinstance(config, type)
        else tyro.extras.subcommand_type_from_defaults(dict(config), prefix_names=False)
    )

    dry_run = Annotated[
        bool,
        tyro.conf.FlagCreatePairsOff,
        tyro.conf.arg(help="Print the resolved config and what it costs, and do nothing."),
    ]
    options = dataclasses.make_dataclass(
        "options",
        [("config", Annotated[chosen, tyro.conf.arg(name="")]), ("dry_run", dry_run, False)],
    )
    rules = tyro.constructors.ConstructorRegistry()
    rules.primitive_rule(_local_path)

    def parse(args: Sequence[str]) -> Any:
        return tyro.cli(
            options,
            # Tyro joins lines unless they are indented.
            description=re.sub("(?m)^python ", "  python ", description or ""),
            args=args,
            config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.CascadeSubcommandArgs),
            registry=rules,
        )

    if (encoding := sys.getfilesystemencoding()) != "utf-8":
        # A name that is read one way and written another becomes two patients.
        sys.exit(_fail(ConfigError(f"names are read as {encoding} here; set LC_ALL=C.UTF-8")))
    given = list(sys.argv[1:] if args is None else args)
    asked = next((number for number, one in enumerate(given) if one in ("-h", "--help")), None)
    if asked is not None:
        _print_help(parse, given[:asked], "".join(given[asked + 1 : asked + 2]))
        sys.exit(0)
    for name in (one.partition("=")[0].replace("_", "-") for one in given):
        if removed and name in removed:
            sys.exit(_fail(ConfigError(f"there is no option {name} any more; {removed[name]}")))
    try:
        # Config dataclasses reject bad values while the command line is parsed.
        parsed = parse(given)
        resolved = parsed.config
        if parsed.dry_run:
            print(json.dumps(dataclasses.asdict(resolved), indent=1, default=str))
            for name, value in (facts(resolved) if facts else {}).items():
                print(f"{name}: {value}")
        else:
            main(resolved)
    except Exception as error:
        # Ray wraps errors of tasks and workers and adds the remote traceback.
        cause = root_cause(error)
        if isinstance(cause, OSError) and cause.errno in _OF_THE_DISK:
            cause = HomNetError(
                f"{cause.filename or 'a file'}: {cause.strerror}; {_OF_THE_DISK[cause.errno]}"
            )
        if isinstance(cause, MemoryError):
            cause = HomNetError(
                "there is not enough memory; end other programs, or use a machine with more"
            )
        if not isinstance(cause, HomNetError):
            raise
        sys.exit(_fail(cause))


def _local_path(
    kind: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec[Path] | None:
    """How tyro reads a field for a file of this machine: a URI of a store is refused."""
    if kind.type is not Path:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda args: local_path(args[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


def _print_help(
    parse: Callable[[Sequence[str]], object], before: Sequence[str], wanted: str
) -> None:
    """Prints tyro's help: one option group, everything, or a line per group."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        parse([*before, "--help"])
    text = re.sub(" +$", "", printed.getvalue(), flags=re.MULTILINE)
    groups = {group[1]: group for group in _GROUP.finditer(text)}
    chosen = [one for name, one in groups.items() if f"{name}.".startswith(f"{wanted}.")]
    if chosen:
        text = "".join(one[0] for one in chosen)
    elif groups and wanted != "all":
        lines = [f"  --help {name:18} {one[2]}" for name, one in groups.items() if "." not in name]
        text = "\n".join([_GROUP.sub("", text) + "Groups of options:", *lines, "  --help all\n"])
    print(text, end="")


def root_cause(error: BaseException) -> BaseException:
    """Unwraps the error that a Ray task or Train worker raised; other errors are returned as is."""
    if "ray" not in sys.modules:  # some jobs run without Ray
        return error
    from ray.exceptions import RayTaskError
    from ray.train import WorkerGroupError

    while True:
        if isinstance(error, RayTaskError):
            inner = error.cause
        elif isinstance(error, WorkerGroupError):
            inner = next(iter(error.worker_failures.values()), None)
        else:
            return error
        if not isinstance(inner, BaseException) or inner is error:
            return error
        error = inner


def _fail(error: BaseException) -> int:
    # Ray Data appends advice to the messages of errors in its tasks.
    print(f"error: {first_line(error)}", file=sys.stderr)
    return 2
