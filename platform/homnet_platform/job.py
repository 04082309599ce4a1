"""How a job starts: command line from the config dataclass, dry run, and errors as sentences."""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import tyro
from ray.exceptions import RayTaskError

from homnet.errors import HomNetError

C = TypeVar("C")


def run_job(
    config: type[C] | Mapping[str, C],
    main: Callable[[C], object],
    *,
    description: str | None,
    facts: Callable[[C], Mapping[str, object]] | None = None,
    args: Sequence[str] | None = None,
) -> None:
    """Parses the command line, runs a job and ends the process.

    Exit codes: 0 done, 2 an error that the user can mend (one sentence on stderr).

    Args:
        config: a frozen config dataclass, or recipes by name: the first word on the command line
            then picks one, and options override its fields.
        main: the job.
        description: text of ``--help``, the job's docstring.
        facts: what ``--dry-run`` should say beside the resolved config, for example its cost.
        args: command line; that of the process by default.
    """
    chosen = (
        config
        if isinstance(config, type)
        else tyro.extras.subcommand_type_from_defaults(dict(config), prefix_names=False)
    )

    def parsed(config: Any, dry_run: bool) -> tuple[Any, bool]:
        return config, dry_run

    parsed.__annotations__ = {
        "config": Annotated[chosen, tyro.conf.arg(name="")],
        "dry_run": Annotated[
            bool,
            tyro.conf.FlagCreatePairsOff,
            tyro.conf.arg(help="Print the resolved config and what it costs, and do nothing."),
        ],
    }
    parsed.__kwdefaults__ = {}
    parsed.__defaults__ = (False,)
    try:
        # Config dataclasses refuse bad values themselves, while the command line is parsed.
        resolved, dry_run = tyro.cli(
            parsed,
            description=description,
            args=args,
            config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.CascadeSubcommandArgs),
        )
        if dry_run:
            print(json.dumps(dataclasses.asdict(resolved), indent=1, default=str))
            for name, value in (facts(resolved) if facts else {}).items():
                print(f"{name}: {value}")
        else:
            main(resolved)
    except HomNetError as error:
        sys.exit(_fail(error))
    except RayTaskError as error:
        # An error raised inside a Ray task comes wrapped in its remote traceback.
        cause = root_cause(error)
        if not isinstance(cause, HomNetError):
            raise
        sys.exit(_fail(cause))


def root_cause(error: BaseException) -> BaseException:
    """The innermost error behind Ray's wrappers; ``error`` itself if there is none."""
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        inner = getattr(error, "cause", None) or error.__cause__
        if not isinstance(inner, BaseException) or isinstance(error, HomNetError):
            break
        error = inner
    return error


def _fail(error: BaseException) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2
