"""Decisions on models: what their files hold, what is wrong with them, and what they come to.

A decision holds its own digest and those of the newest decisions of its hospital that the deciding
process saw, so that one that was changed or removed is noticed. (Nothing names the newest one: only
a process that saw it, such as a running endpoint, can miss it.) A promotion also holds the digests
of the reference bags and readers that belong to the model.

A hospital with a damaged decision has no known model until the decision is restored, or until
somebody promotes a model again: that sets the damaged decision aside. Other hospitals are not
affected. Decisions of earlier versions, ``<number>-<id>.json``, have no digest and are still read;
the next decision holds theirs.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args
from urllib.parse import quote, unquote

from homnet.errors import DataError
from homnet.files import parse_json
from homnet.model.checkpoint import HASHES

Action = Literal["publish", "promote", "retire", "roll_back"]
_NAME: Final = re.compile(r"(\d{9,12})-(?:(.*)-)?([0-9a-f]{32})\.json")
"""Number, quoted hospital (none in an earlier version) and id in the name of a decision."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_BESIDE: Final = re.compile(rf"golden/[0-9a-f]{{64}}\.arrow|readers/[0-9a-f]{{64}}/{HASHES}")
"""Files whose digests a promotion holds."""
_ADVICE: Final = "restore it from a copy, or promote a model again, which sets it aside"


@dataclass(frozen=True)
class Decision:
    """A decision on a model of a hospital."""

    action: Action
    """What was decided."""
    hospital: str
    """Hospital that the decision applies to."""
    version: str
    """Model that the decision applies to; for a roll-back, the model that is withdrawn."""
    number: int
    """One more than the largest number seen by the deciding process."""
    time: str
    """Time of the decision, UTC."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Orders decisions of equal number."""
    previous: tuple[str, ...] = ()
    """Digests of the hospital's decisions that no other decision named."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Of a promotion: digests of reference bags and lists of readers' files, by path."""
    set_aside: tuple[str, ...] = ()
    """Of a promotion: names or digests of damaged decisions that count no more."""

    @property
    def digest(self) -> str:
        """SHA-256 of all fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def name(self) -> str:
        """Name of its file."""
        hospital = quote(self.hospital, safe="")
        return f"{self.number:09d}-{hospital}-{self.id}.json"


@dataclass(frozen=True)
class Entry:
    """Status of a model at one hospital."""

    hospital: str
    """The hospital."""
    version: str
    """Digest of the checkpoint: weights, calibration and provenance."""
    status: Literal["candidate", "promoted", "retired", "unknown"]
    """In use (promoted), available for promotion (candidate), or out of use (retired); unknown if a
    decision of the hospital is damaged."""
    published: str
    """Time of the first publication, UTC."""


@dataclass(frozen=True)
class Promotion:
    """A model that may be used at a hospital."""

    version: str
    """The model."""
    decision: str
    """File of the promotion."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Digests of its reference bags and reader when it was promoted; see :class:`Decision`."""


@dataclass(frozen=True)
class Standing:
    """What the decisions of a registry come to."""

    decisions: tuple[Decision, ...]
    """All that can be read, by number, then by id."""
    number: int
    """The largest number in the name of a decision; 0 without decisions."""
    problems: Mapping[str, Mapping[str, str]]
    """What is wrong with the decisions of a hospital, in sentences, by the name or digest of the
    damaged decision. The hospital is empty if a decision does not say whose it is."""
    entries: tuple[Entry, ...]
    """All models, in order of publication."""
    lines: Mapping[str, tuple[Promotion, ...]]
    """Models that may be used, by hospital without problems; the promoted one last, after its
    predecessors."""
    retired: frozenset[tuple[str, str]]
    """Hospital and version of each retired model."""

    @property
    def names(self) -> dict[str, frozenset[str]]:
        """Files of the decisions of each hospital."""
        found: dict[str, set[str]] = {}
        for one in self.decisions:
            found.setdefault(one.hospital, set()).add(one.name)
        return {hospital: frozenset(own) for hospital, own in found.items()}

    def next(
        self,
        action: Action,
        hospital: str,
        version: str,
        *,
        beside: Mapping[str, str] | None = None,
    ) -> Decision:
        """Makes a decision that follows all these; a promotion sets damaged ones aside."""
        own = [one for one in self.decisions if one.hospital == hospital]
        named = {digest for one in own for digest in one.previous}
        damaged = self.problems.get(hospital, {}) if action == "promote" else {}
        return Decision(
            action,
            hospital,
            version,
            self.number + 1,
            datetime.now(UTC).isoformat(timespec="seconds"),
            previous=tuple(sorted({one.digest for one in own} - named)),
            beside=beside or {},
            set_aside=tuple(damaged),
        )


def read_decisions(contents: Iterable[tuple[str, bytes | OSError]]) -> Standing:
    """Reads all decisions and applies them in order; damage stays with its hospital.

    Args:
        contents: name and content of each file, or why it cannot be read.
    """
    decisions: list[Decision] = []
    problems: dict[str, dict[str, str]] = {}
    numbers = [0]
    for name, content in contents:
        parts = _NAME.fullmatch(name)
        hospital = ""
        if parts:
            hospital = unquote(parts[2] or "")
            numbers.append(int(parts[1]))
        try:
            if isinstance(content, OSError):
                raise DataError(f"decision {name}: no access ({content}); {_ADVICE}")
            advice = _ADVICE if hospital else "restore it from a copy, or remove it"
            found = parse_json(content, f"decision {name}", advice=advice)
            if not hospital and isinstance(found.get("hospital"), str):
                hospital = found["hospital"]
            decisions.append(_checked(name, found))
        except DataError as error:
            problems.setdefault(hospital, {})[name] = str(error)
    decisions.sort(key=lambda one: (one.number, one.id))
    return _standing(decisions, max(numbers), problems)


_FIELDS: Final = frozenset(field.name for field in fields(Decision))
_EARLIER: Final = _FIELDS - {"previous", "beside", "set_aside"}
"""Fields of a decision of an earlier version."""


def _checked(name: str, content: Mapping[str, Any]) -> Decision:
    """Checks the content of a decision's file.

    Raises:
        DataError: a field is missing, unknown or mistyped, the digest is wrong, or the file has the
            name of another decision.
    """
    is_earlier = name.count("-") == 1
    if (
        set(content) != (_EARLIER if is_earlier else _FIELDS | {"sha256"})
        or content["action"] not in get_args(Action)
        or type(content["number"]) is not int
        or not all(isinstance(content[n], str) for n in ("hospital", "version", "time", "id"))
        or not _DIGEST.fullmatch(content["version"])
        or not (is_earlier or _is_linked(content))
    ):
        raise DataError(f"decision {name}: a field is missing, unknown or wrong; {_ADVICE}")
    values: dict[str, Any] = {name: value for name, value in content.items() if name != "sha256"}
    values.update({n: tuple(values[n]) for n in ("previous", "set_aside") if n in values})
    decision = Decision(**values)
    expected = f"{decision.number:09d}-{decision.id}.json" if is_earlier else decision.name
    if name != expected or content.get("sha256", decision.digest) != decision.digest:
        raise DataError(f"decision {name}: was changed or renamed since it was made; {_ADVICE}")
    return decision


def _is_linked(content: Mapping[str, Any]) -> bool:
    """Whether the fields of a decision that name other files have the right types."""
    lists, beside = (content["previous"], content["set_aside"]), content["beside"]
    return (
        all(isinstance(one, list) and all(isinstance(n, str) for n in one) for one in lists)
        and isinstance(beside, dict)
        and all(_BESIDE.fullmatch(path) for path in beside)
        and all(isinstance(digest, str) for digest in beside.values())
    )


def _standing(
    decisions: Sequence[Decision], number: int, unread: Mapping[str, Mapping[str, str]]
) -> Standing:
    problems = {hospital: dict(own) for hospital, own in unread.items()}
    present = {(one.hospital, one.digest) for one in decisions}
    for one in decisions:
        for digest in one.previous:
            if (one.hospital, digest) not in present:
                problems.setdefault(one.hospital, {})[digest] = (
                    f"decision {one.name}: an earlier decision of {one.hospital} that it names is "
                    f"missing or damaged; {_ADVICE}"
                )
    for one in decisions:
        for name in one.set_aside:
            problems.get(one.hospital, {}).pop(name, None)
    problems = {hospital: own for hospital, own in problems.items() if own}
    state = _replay(decisions)
    entries = tuple(
        Entry(
            hospital=of,
            version=version,
            status="unknown"
            if of in problems
            else "retired"
            if (of, version) in state.retired
            else "promoted"
            if state.answers(of, version)
            else "candidate",
            published=time,
        )
        for (of, version), time in state.published.items()
    )
    return Standing(
        tuple(decisions),
        number,
        problems,
        entries,
        {of: tuple(line) for of, line in state.line.items() if line and of not in problems},
        frozenset(state.retired),
    )


@dataclass(frozen=True)
class _Replayed:
    """State that results from all decisions."""

    published: dict[tuple[str, str], str]
    """Time of publication by hospital and version, in order of publication."""
    retired: set[tuple[str, str]]
    """Pairs of hospital and version."""
    line: dict[str, list[Promotion]]
    """Promoted models by hospital, the current one last."""

    def answers(self, hospital: str, version: str) -> bool:
        """Whether a model is the current one."""
        return [one.version for one in self.line[hospital][-1:]] == [version]


def _replay(decisions: Iterable[Decision]) -> _Replayed:
    """Applies all decisions in order; decisions that contradict the state are ignored."""
    state = _Replayed({}, set(), {})
    for decision in decisions:
        key = (decision.hospital, decision.version)
        line = state.line.setdefault(decision.hospital, [])
        if decision.action == "publish":
            state.published.setdefault(key, decision.time)
        elif decision.action == "promote" and key in state.published and key not in state.retired:
            if decision.set_aside:
                line.clear()  # nobody knows what answered before
            elif state.answers(*key):
                line.pop()
            line.append(Promotion(decision.version, decision.name, decision.beside))
        elif decision.action == "roll_back" and state.answers(*key):
            line.pop()
        elif decision.action == "retire" and not state.answers(*key):
            state.retired.add(key)
            line[:] = [one for one in line if one.version != decision.version]
    return state
