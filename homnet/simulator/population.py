"""People: their sex, their normal variants, and the one abnormality that some of them carry."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from homnet.bands import FINEST_LEVEL, band_table
from homnet.chromosomes import ACROCENTRICS, CHROMOSOMES
from homnet.simulator import genome
from homnet.simulator.breakpoints import Site
from homnet.simulator.genome import Change, Homolog
from homnet.simulator.laboratory import HospitalConfig

Genome = dict[str, list[Homolog]]
"""The homologs of each type; a type may have one or none."""

_SIZE_RANGE_MB: Final = (3.0, 120.0)
"""Smallest and largest rearranged segment; smaller ones no microscope shows."""

_ROBERTSONIAN: Final = {
    "13;14": 0.75,
    "14;21": 0.1,
    "13;15": 0.03,
    "13;21": 0.03,
    "14;15": 0.03,
    "21;22": 0.02,
    "14;22": 0.02,
    "15;22": 0.02,
}
"""Shares of the Robertsonian translocations: rob(13;14) is by far the most frequent."""

_HETEROCHROMATIN: Final = {
    "1": ("q12", "q12", 0.15),
    "9": ("q12", "q12", 0.22),
    "16": ("q11.2", "q11.2", 0.15),
    "Y": ("q12", "q12", 0.25),
    **dict.fromkeys(ACROCENTRICS, ("p13", "p11.2", 0.25)),
}
"""First band, last band and standard deviation of the log length of what varies in everybody:
1qh, 9qh, 16qh, Yqh (Yamada 1978), and short arms and satellites of the acrocentrics."""

_INV9_RATE: Final = 0.005
"""Share of the chromosomes 9 that carry the harmless inv(9)(p12q13) (Hsu 1987)."""


@dataclass(frozen=True)
class Trace:
    """Where a person's abnormality lies on one of the two homologs of a type."""

    chromosome: str
    """Type."""
    homolog: int
    """Index in the person's genome."""
    start: float
    """Beginning on the derivative chromosome, ISCN units."""
    stop: float
    """End; equal to ``start`` for a deletion."""


@dataclass(frozen=True)
class Person:
    """One person's chromosomes."""

    genome: Genome
    """Homologs by type; a man has one X and one Y."""
    kind: str | None
    """Structural abnormality, or None."""
    traces: tuple[Trace, ...]
    """Where it lies: two types for a reciprocal translocation, none when there is none."""


def draw_person(
    generator: np.random.Generator, hospital: HospitalConfig, *, abnormal: bool
) -> Person:
    """Draws a person with normal variants and, when ``abnormal``, one structural abnormality."""
    male = generator.random() < 0.5
    sex = {"X": 1, "Y": 1} if male else {"X": 2, "Y": 0}
    homologs: Genome = {
        name: [_with_variants(generator, name) for _ in range(sex.get(name, 2))]
        for name in CHROMOSOMES
    }
    if not abnormal:
        return Person(homologs, None, ())
    kind = _choose(generator, hospital.kinds)
    return Person(homologs, kind, _rearrange(generator, hospital, homologs, kind))


def _with_variants(generator: np.random.Generator, name: str) -> Homolog:
    homolog = genome.reference(name)
    bands = band_table(400)[name]
    if name in _HETEROCHROMATIN:
        first, last, sd = _HETEROCHROMATIN[name]
        factor = float(np.exp(np.clip(generator.normal(0.0, sd), -2.5 * sd, 2.5 * sd)))
        homolog = genome.stretch(homolog, *bands.region(first, last), factor)
    if name == "9" and generator.random() < _INV9_RATE:
        start = homolog.position_of("9", bands.region("p12")[0])
        stop = homolog.position_of("9", bands.region("q13")[1])
        homolog = genome.invert(homolog, start, stop).homolog
    return homolog


def _rearrange(
    generator: np.random.Generator, hospital: HospitalConfig, homologs: Genome, kind: str
) -> tuple[Trace, ...]:
    """Puts one abnormality into the genome, in place."""
    if kind == "robertsonian":
        return _robertsonian(generator, homologs)
    paired = {
        name: band_table(FINEST_LEVEL)[name].length_bp
        for name in CHROMOSOMES
        if len(homologs[name]) == 2
    }
    # A man's X and Y are not assessed, so his abnormality is drawn among the paired types.
    name = _choose(generator, paired)
    size_mb = hospital.median_size_mb * np.exp(generator.normal(0.0, hospital.size_spread))
    site = _site(generator, homologs, name, size_mb)
    if kind in {"deletion", "duplication", "inversion"}:
        return (_put(homologs, site, _local_change(generator, site, kind)),)
    others = {key: bp for key, bp in paired.items() if key != name}
    other_size_mb = size_mb * np.exp(generator.normal(0.0, hospital.exchange_spread))
    donor = _site(generator, homologs, _choose(generator, others), other_size_mb)
    if kind == "insertion":
        fragment = donor.homolog.span(*donor.interval(donor.arm()))
        return (_put(homologs, site, genome.insert(site.homolog, site.point(), fragment)),)
    (at, tip), (donor_at, donor_tip) = site.end(), donor.end()
    foreign = genome.end_of(donor.homolog, donor_at, tip=donor_tip)
    traces = [_put(homologs, site, genome.replace_end(site.homolog, at, foreign, tip=tip))]
    if kind == "translocation":
        own = genome.end_of(site.homolog, at, tip=tip)
        change = genome.replace_end(donor.homolog, donor_at, own, tip=donor_tip)
        traces.append(_put(homologs, donor, change))
    return tuple(traces)


def _local_change(generator: np.random.Generator, site: Site, kind: str) -> Change:
    """An event within one chromosome.

    Half of the deletions are terminal, two thirds of the inversions pericentric, and three in ten
    duplications inverted.
    """
    if kind == "deletion" and generator.random() < 1 / 2:
        at, tip = site.end()
        span = (0.0, at) if tip else (at, site.homolog.length_iscn)
        return genome.delete(site.homolog, *span)
    if kind == "inversion" and generator.random() < 2 / 3:
        return genome.invert(site.homolog, *site.around_centromere())
    start, stop = site.interval(site.arm())
    if kind == "deletion":
        return genome.delete(site.homolog, start, stop)
    if kind == "duplication":
        inverted = bool(generator.random() < 0.3)
        return genome.duplicate(site.homolog, start, stop, inverted=inverted)
    return genome.invert(site.homolog, start, stop)


def _robertsonian(generator: np.random.Generator, homologs: Genome) -> tuple[Trace, ...]:
    """Joins two acrocentrics.

    The derivative takes the place of the type with the lower number; the other type keeps one
    homolog.
    """
    first, second = _choose(generator, _ROBERTSONIAN).split(";")
    index = int(generator.integers(2))
    partner = homologs[second].pop(int(generator.integers(2)))
    upper, lower = sorted(
        ((homologs[first][index], first), (partner, second)), key=lambda arm: arm[0].length_iscn
    )
    change = genome.fuse(
        upper[0], upper[0].centromere_of(upper[1]), lower[0], lower[0].centromere_of(lower[1])
    )
    homologs[first][index] = change.homolog
    return (Trace(first, index, change.start, change.stop),)


def _site(generator: np.random.Generator, homologs: Genome, name: str, size_mb: float) -> Site:
    index = int(generator.integers(2))
    size_mb = float(np.clip(size_mb, *_SIZE_RANGE_MB))
    return Site(generator, name, index, homologs[name][index], size_mb)


def _put(homologs: Genome, site: Site, change: Change) -> Trace:
    homologs[site.name][site.index] = change.homolog
    return Trace(site.name, site.index, change.start, change.stop)


def _choose(generator: np.random.Generator, weights: Mapping[str, float]) -> str:
    names = list(weights)
    shares = np.array([weights[name] for name in names], dtype=np.float64)
    return names[int(generator.choice(len(names), p=shares / shares.sum()))]
