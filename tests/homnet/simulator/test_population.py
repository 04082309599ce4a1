from dataclasses import replace

import numpy as np
import pytest

from homnet.bands import FINEST_LEVEL, band_table
from homnet.chromosomes import ACROCENTRICS, CHROMOSOMES
from homnet.simulator.breakpoints import Site
from homnet.simulator.genome import reference
from homnet.simulator.laboratory import KINDS, hospitals
from homnet.simulator.population import draw_person

HOSPITAL = hospitals()[0]


def carriers(kind: str, number: int):
    hospital = replace(HOSPITAL, kinds={kind: 1.0})
    return [
        draw_person(np.random.default_rng(seed), hospital, abnormal=True) for seed in range(number)
    ]


def test_healthy_people_have_46_chromosomes_of_both_sexes():
    people = [
        draw_person(np.random.default_rng(seed), HOSPITAL, abnormal=False) for seed in range(20)
    ]
    assert {sum(map(len, person.genome.values())) for person in people} == {46}
    assert {(len(p.genome["X"]), len(p.genome["Y"])) for p in people} == {(2, 0), (1, 1)}
    assert all(person.kind is None and not person.traces for person in people)


def test_healthy_people_vary():
    person = draw_person(np.random.default_rng(3), HOSPITAL, abnormal=False)
    table = band_table(FINEST_LEVEL)
    changed = {
        name
        for name in CHROMOSOMES
        for homolog in person.genome[name]
        if abs(homolog.length_iscn - table[name].length_iscn) > 1e-6
    }
    assert {"1", "9", "16", *ACROCENTRICS} <= changed <= {"1", "9", "16", "Y", *ACROCENTRICS}


def test_some_healthy_people_carry_the_inversion_of_chromosome_9():
    inverted = [
        any(segment.inverted for homolog in person.genome["9"] for segment in homolog.segments)
        for person in (
            draw_person(np.random.default_rng(seed), HOSPITAL, abnormal=False)
            for seed in range(1000)
        )
    ]
    assert 2 <= sum(inverted) <= 25


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_leaves_its_trace(kind):
    for person in carriers(kind, 15):
        assert person.kind == kind
        assert len(person.traces) == (2 if kind == "translocation" else 1)
        for trace in person.traces:
            homologs = person.genome[trace.chromosome]
            derivative = homologs[trace.homolog]
            assert 0 <= trace.start <= trace.stop <= derivative.length_iscn + 1e-6
            assert (trace.start == trace.stop) == (kind == "deletion")
            # A man's only X or Y is not assessed, so nothing is hidden there.
            assert len(homologs) == 2


def test_translocation_changes_two_types_and_loses_nothing():
    for person in carriers("translocation", 15):
        first, second = (trace.chromosome for trace in person.traces)
        assert first != second
        for trace, foreign in zip(person.traces, (second, first), strict=True):
            derivative = person.genome[trace.chromosome][trace.homolog]
            assert {s.chromosome for s in derivative.segments} == {trace.chromosome, foreign}
            derivative.centromere_of(trace.chromosome)
            with pytest.raises(ValueError, match="no position"):
                derivative.centromere_of(foreign)


def test_robertsonian_leaves_45_chromosomes_and_one_partner():
    for person in carriers("robertsonian", 15):
        assert sum(map(len, person.genome.values())) == 45
        (trace,) = person.traces
        derivative = person.genome[trace.chromosome][trace.homolog]
        types = {segment.chromosome for segment in derivative.segments}
        (partner,) = types - {trace.chromosome}
        assert types <= set(ACROCENTRICS)
        assert len(person.genome[partner]) == 1


def test_sizes_follow_the_hospital():
    def median_loss(median_size_mb):
        hospital = replace(
            HOSPITAL, kinds={"deletion": 1.0}, median_size_mb=median_size_mb, size_spread=0.01
        )
        losses = []
        for seed in range(40):
            person = draw_person(np.random.default_rng(seed), hospital, abnormal=True)
            (trace,) = person.traces
            normal = person.genome[trace.chromosome][1 - trace.homolog]
            derivative = person.genome[trace.chromosome][trace.homolog]
            losses.append(normal.length_iscn - derivative.length_iscn)
        return np.median(losses)

    # Some 60 ISCN units are a megabase.
    assert 300 < median_loss(8.0) < 800 < 900 < median_loss(24.0) < 2200


def test_breakpoints_prefer_light_bands():
    bands = band_table(FINEST_LEVEL)["2"]
    site = Site(np.random.default_rng(0), "2", 0, reference("2"), size_mb=10.0)
    light = np.mean([bands.at(site.point()).stain == "gneg" for _ in range(600)])
    share = sum(b.bp_stop - b.bp_start for b in bands.bands if b.stain == "gneg") / bands.length_bp
    expected = 3 * share / (3 * share + 1 - share)
    assert light == pytest.approx(expected, abs=0.06)
    assert expected - share > 0.15


def test_pericentric_span_holds_the_centromere():
    site = Site(np.random.default_rng(1), "4", 0, reference("4"), size_mb=30.0)
    centromere = reference("4").centromere_of("4")
    for _ in range(30):
        start, stop = site.around_centromere()
        assert start < centromere < stop
