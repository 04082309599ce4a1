"""Simulated people: sex, normal variants, and at most one structural abnormality."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.chromosomes import ACROCENTRICS, CHROMOSOMES
from homnet.karyotype.variants import HETEROCHROMATIN, INVERTED
from homnet.simulator import genome
from homnet.simulator.breakpoints import Breakpoint, Site, bands_within
from homnet.simulator.events import Derivative, Event, derive, in_order
from homnet.simulator.genome import Homolog
from homnet.simulator.laboratory import HospitalConfig
from homnet.simulator.recurrent import draw_recurrent

Genome = dict[str, tuple[Homolog, ...]]
"""The homologs of each type: two, one or none."""

_SIZE_RANGE_MB: Final = (3.0, 120.0)
"""Minimum and maximum size of a rearranged segment; microscopes do not resolve smaller ones."""

_ROBERTSONIAN: Final = {
    "13;14": 0.75,
    "14;21": 0.1,
    "13;15": 0.025,
    "13;21": 0.025,
    "14;15": 0.025,
    "21;22": 0.02,
    "14;22": 0.02,
    "15;22": 0.015,
    "13;22": 0.01,
    "15;21": 0.01,
}
"""Relative frequencies of Robertsonian translocations; rob(13;14) is by far the most frequent."""

_ISOCHROMOSOME: Final = {"Xq": 0.5, "18p": 0.15, "17q": 0.13, "12p": 0.12, "21q": 0.1}
"""Relative frequencies of isochromosomes by the arm kept; that of the X occurs in women."""

_TERMINAL_SHARE: Final = 1 / 2
"""Share of deletions that are terminal."""
_PERICENTRIC_SHARE: Final = 2 / 3
"""Share of inversions that are pericentric."""
_INVERTED_SHARE: Final = 0.3
"""Share of duplications and insertions with an inverted fragment."""
_SHIFT_SHARE: Final = 0.25
"""Share of insertions that are within one chromosome."""
_UNBALANCED_SHARE: Final = 0.3
"""Share of insertions between chromosomes with an intact donor: inherited unbalanced."""

_HETEROCHROMATIN: Final = {
    "1": (0.15, "1qh+"),
    "9": (0.22, "9qh+"),
    "16": (0.15, "16qh+"),
    "Y": (0.25, "Yqh+"),
    **{name: (0.25, f"{name}pstk+") for name in ACROCENTRICS},
}
"""Standard deviation of the log length, and name, of common heteromorphisms."""
_MARKED_STRETCH: Final = 1.5
"""Ratio to the usual length from which a variant of heterochromatin is reported."""
_MAX_DEVIATIONS: Final = 3.0
"""Maximum deviation of the log length, in standard deviations."""

_INVERTED_VARIANT: Final = {
    "2": 0.0005,
    "9": 0.005,
    "10": 0.0003,
    "Y": 0.003,
}
"""Share of chromosomes that carry a normal-variant inversion: inv(9) in 0.3 to 3.6 % of people, by
descent (Hsu 1987), inv(Y) in 0.3 % of men; the others are rarer."""


@dataclass(frozen=True)
class Clone:
    """Cells of a person with the same chromosomes."""

    genome: Genome
    """Homologs by type; a man has one X and one Y."""
    derivatives: Mapping[tuple[str, int], Derivative]
    """The changed ones by type and index in the genome; empty in normal cells."""
    share: float
    """Share of the person's cells."""


@dataclass(frozen=True)
class Person:
    """A simulated person."""

    clones: tuple[Clone, ...]
    """One clone; in a mosaic the abnormal and the normal one."""
    event: Event | None
    """The structural abnormality, or None."""


def draw_person(
    generator: np.random.Generator, hospital: HospitalConfig, *, abnormal: bool
) -> Person:
    """Draws a person with normal variants and, when ``abnormal``, one structural abnormality."""
    number = dict.fromkeys(CHROMOSOMES, 2) | (
        {"X": 1, "Y": 1} if generator.random() < 0.5 else {"Y": 0}
    )
    # The X and Y of a man are not assessed, so his abnormality is drawn among the paired types.
    paired = [name for name in CHROMOSOMES if number[name] == 2]
    event = draw_event(generator, hospital, paired) if abnormal else None
    broken = {name: int(generator.integers(2)) for name in event.chromosomes} if event else {}
    # Homologs with breakpoints carry no variant inversions: breakpoints refer to the reference.
    born = {
        name: tuple(
            _homolog(
                generator,
                name,
                inverted=0.0 if broken.get(name) == index else hospital.variant_inversions,
            )
            for index in range(number[name])
        )
        for name in CHROMOSOMES
    }
    if event is None:
        return Person((Clone(born, {}, 1.0),), None)
    derived = derive(event, {name: born[name][index] for name, index in broken.items()})
    changed = dict(born)
    for name, index in broken.items():
        before, after = born[name][:index], born[name][index + 1 :]
        if name in derived:
            changed[name] = (*before, derived[name].homolog, *after)
        elif event.kind == "robertsonian":
            changed[name] = before + after
    derivatives = {(name, broken[name]): derivative for name, derivative in derived.items()}
    if generator.random() >= hospital.mosaic_share:
        return Person((Clone(changed, derivatives, 1.0),), event)
    share = float(generator.uniform(*hospital.clone_fraction))
    clones = Clone(changed, derivatives, share), Clone(born, {}, 1.0 - share)
    return Person(clones, event)


def draw_event(
    generator: np.random.Generator, hospital: HospitalConfig, paired: list[str]
) -> Event:
    """Draws a structural abnormality for a patient of a hospital.

    Args:
        generator: source of randomness.
        hospital: provides kinds, share of recurrent abnormalities, and sizes.
        paired: types of which the patient has two; the abnormality is among these.
    """
    if generator.random() < hospital.recurrent_share:
        kinds = [kind for kind, weight in hospital.kinds.items() if weight > 0]
        recurrent = draw_recurrent(generator, hospital.context, kinds, paired)
        if recurrent is not None:
            return recurrent
    kind = _choose(generator, hospital.kinds)
    if kind == "robertsonian":
        types = _choose(generator, _ROBERTSONIAN).split(";")
        return Event(kind, tuple(Breakpoint.of_arm(name, "q") for name in types))
    if kind == "isochromosome":
        arms = {arm: share for arm, share in _ISOCHROMOSOME.items() if arm[:-1] in paired}
        arm = _choose(generator, arms)
        return Event(kind, (Breakpoint.of_arm(arm[:-1], arm[-1]),))
    lengths = {name: float(band_table(FINEST_LEVEL)[name].length_bp) for name in paired}
    site = Site(generator, _choose(generator, lengths))
    size_mb = hospital.median_size_mb * np.exp(generator.normal(0.0, hospital.size_spread))
    if kind not in {"translocation", "addition", "insertion"}:
        return _local(generator, kind, site, _clip(size_mb))
    others = {name: length for name, length in lengths.items() if name != site.chromosome}
    other = Site(generator, _choose(generator, others))
    other_mb = size_mb * np.exp(generator.normal(0.0, hospital.exchange_spread))
    if kind == "insertion":
        return _insertion(generator, site, other, _clip(other_mb))
    ends = site.end(site.arm(), _clip(size_mb)), other.end(other.arm(), _clip(other_mb))
    return Event(kind, ends)


def _local(generator: np.random.Generator, kind: str, site: Site, size_mb: float) -> Event:
    """Draws an event within one chromosome."""
    if kind == "ring":
        return Event(kind, (site.end("p", size_mb / 2), site.end("q", size_mb / 2)))
    if kind == "deletion" and generator.random() < _TERMINAL_SHARE:
        return Event(kind, (site.end(site.arm(), size_mb),))
    if kind == "inversion" and generator.random() < _PERICENTRIC_SHARE:
        return Event(kind, in_order(*site.around_centromere(size_mb)))
    places = in_order(*site.interval(site.arm(), size_mb))
    inverted = kind == "duplication" and bool(generator.random() < _INVERTED_SHARE)
    return Event(kind, places, inverted)


def _insertion(generator: np.random.Generator, site: Site, other: Site, size_mb: float) -> Event:
    shifted = generator.random() < _SHIFT_SHARE
    donor = site if shifted else other
    fragment = donor.interval(donor.arm(), size_mb)
    inverted = bool(generator.random() < _INVERTED_SHARE)
    balanced = shifted or bool(generator.random() >= _UNBALANCED_SHARE)
    target = site.point()
    # A fragment that moves too little is not visible.
    reach = _SIZE_RANGE_MB[0]
    while shifted and fragment[0].mb - reach < target.mb < fragment[1].mb + reach:
        target = site.point()
    return Event("insertion", (target, *in_order(*fragment)), inverted, balanced)


def _homolog(generator: np.random.Generator, name: str, *, inverted: float) -> Homolog:
    """Draws a normal chromosome with its variants; ``inverted`` scales the rate of inversions."""
    homolog = genome.reference(name)
    variants: tuple[str, ...] = ()
    if name in _HETEROCHROMATIN:
        sd, label = _HETEROCHROMATIN[name]
        deviation = np.clip(generator.normal(), -_MAX_DEVIATIONS, _MAX_DEVIATIONS)
        factor = float(np.exp(sd * deviation))
        start, stop = band_table(FINEST_LEVEL)[name].region(*HETEROCHROMATIN[name])
        homolog = genome.stretch(homolog, start, stop, factor)
        variants += (label,) * (factor >= _MARKED_STRETCH)
    if name in _INVERTED_VARIANT:
        first, last = INVERTED[name]
        if generator.random() < _INVERTED_VARIANT[name] * inverted:
            start, stop = (homolog.position_of(name, _middle(name, band)) for band in (first, last))
            homolog = genome.invert(homolog, start, stop).homolog
            variants += (f"inv({name})({first}{last})",)
    return replace(homolog, variants=variants) if variants else homolog


def _middle(chromosome: str, label: str) -> float:
    bands = bands_within(chromosome, label)
    return (bands[0].iscn_start + bands[-1].iscn_stop) / 2


def _clip(size_mb: float) -> float:
    return float(np.clip(size_mb, *_SIZE_RANGE_MB))


def _choose(generator: np.random.Generator, weights: Mapping[str, float]) -> str:
    names = list(weights)
    shares = np.array([weights[name] for name in names], dtype=np.float64)
    return names[int(generator.choice(len(names), p=shares / shares.sum()))]
