from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from homnet.errors import ConfigError
from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.chromosomes import ACROCENTRICS, CHROMOSOMES
from homnet.karyotype.kinds import SIMULATED
from homnet.simulator.breakpoints import Site
from homnet.simulator.laboratory import hospitals
from homnet.simulator.population import draw_event, draw_person
from homnet.simulator.recurrent import RECURRENT

HOSPITAL = replace(hospitals()[0], recurrent_share=0.0, mosaic_share=0.0)
WOMAN = [name for name in CHROMOSOMES if name != "Y"]


def carriers(kind: str, number: int):
    hospital = replace(HOSPITAL, kinds={kind: 1.0})
    return [
        draw_person(np.random.default_rng(seed), hospital, abnormal=True) for seed in range(number)
    ]


def healthy_people(number: int):
    return [
        draw_person(np.random.default_rng(seed), HOSPITAL, abnormal=False) for seed in range(number)
    ]


def events(hospital, number: int):
    generator = np.random.default_rng(0)
    return [draw_event(generator, hospital, WOMAN) for _ in range(number)]


def num_chromosomes(clone) -> int:
    return sum(map(len, clone.genome.values()))


def test_healthy_people_have_46_chromosomes_of_both_sexes():
    people = healthy_people(20)
    clones = [clone for person in people for clone in person.clones]
    assert len(clones) == 20
    assert {num_chromosomes(clone) for clone in clones} == {46}
    sexes = {(len(c.genome["X"]), len(c.genome["Y"])) for c in clones}
    assert sexes == {(2, 0), (1, 1)}
    assert all(person.event is None for person in people)
    assert not any(clone.derivatives for clone in clones)


def test_healthy_people_vary():
    (clone,) = healthy_people(4)[3].clones
    table = band_table(FINEST_LEVEL)
    changed = {
        name
        for name in CHROMOSOMES
        for homolog in clone.genome[name]
        if abs(homolog.length_iscn - table[name].length_iscn) > 1e-6
    }
    assert {"1", "9", "16", *ACROCENTRICS} <= changed <= {"1", "9", "16", "Y", *ACROCENTRICS}


def test_variants_are_named_when_they_are_long_or_inverted():
    named = Counter()
    for person in healthy_people(1500):
        for name, homologs in person.clones[0].genome.items():
            for homolog in homologs:
                inverted = any(segment.inverted for segment in homolog.segments)
                long = max(segment.stretch for segment in homolog.segments) >= 1.5
                assert inverted == any(v.startswith(f"inv({name})") for v in homolog.variants)
                assert long == any(v.endswith("+") for v in homolog.variants)
                named.update(homolog.variants)
    # Half a percent of 3000 chromosomes 9; the bounds are some four standard deviations wide.
    assert 3 <= named["inv(9)(p12q13)"] <= 32
    assert named["9qh+"] > named["1qh+"] > 0
    assert named["21pstk+"] > 0
    assert all(named[v] < 20 for v in ("inv(2)(p11.2q13)", "inv(10)(p11.2q21)"))


@pytest.mark.parametrize("kind", SIMULATED)
def test_each_kind_changes_chromosomes_of_paired_types(kind):
    for person in carriers(kind, 15):
        (clone,) = person.clones
        assert person.event.kind == kind
        assert person.event.size_mb > 0
        assert clone.derivatives
        for (name, index), derivative in clone.derivatives.items():
            homologs = clone.genome[name]
            assert homologs[index] == derivative.homolog
            assert not derivative.homolog.variants
            end = derivative.homolog.length_iscn + 1e-6
            assert 0 <= derivative.start <= derivative.stop <= end
            junction_only = kind in {"deletion", "ring"} or derivative.points[0] is None
            assert (derivative.start == derivative.stop) == junction_only
            assert len(derivative.points) == len(person.event.breakpoints)
            # A man's only X or Y is not assessed, so nothing is hidden there.
            assert len(homologs) == 2


def centromere_of(homolog, chromosome):
    """Position of the border between the arms of a type on a chromosome."""
    reference = band_table(FINEST_LEVEL)[chromosome].centromere_iscn
    return homolog.position_of(chromosome, reference)


def test_translocation_changes_two_types_and_loses_nothing():
    for person in carriers("translocation", 15):
        (clone,) = person.clones
        (first, _), (second, _) = clone.derivatives
        assert first != second
        for ((name, _), changed), foreign in zip(
            clone.derivatives.items(), (second, first), strict=True
        ):
            derivative = changed.homolog
            assert {s.chromosome for s in derivative.segments} == {name, foreign}
            centromere_of(derivative, name)
            with pytest.raises(ValueError, match="no position"):
                centromere_of(derivative, foreign)


def test_robertsonian_leaves_45_chromosomes_and_one_partner():
    for person in carriers("robertsonian", 15):
        (clone,) = person.clones
        assert num_chromosomes(clone) == 45
        (((chromosome, index), derivative),) = clone.derivatives.items()
        types = {segment.chromosome for segment in derivative.homolog.segments}
        (partner,) = types - {chromosome}
        assert types <= set(ACROCENTRICS)
        assert len(clone.genome[partner]) == 1
        assert clone.genome[chromosome][index] is derivative.homolog


def test_balanced_insertions_change_the_donor_too():
    kinds = Counter()
    for person in carriers("insertion", 80):
        (clone,) = person.clones
        target, donor = person.event.chromosomes[0], person.event.chromosomes[-1]
        changed = {name for name, _ in clone.derivatives}
        assert changed == ({target, donor} if person.event.balanced else {target})
        kinds[target == donor, person.event.balanced] += 1
    assert set(kinds) == {(True, True), (False, True), (False, False)}


def test_rings_lose_both_tips_and_isochromosomes_an_arm():
    for person in carriers("ring", 10):
        ((name, _), ring), *rest = person.clones[0].derivatives.items()
        assert not rest
        assert ring.circular
        assert ring.homolog.length_iscn < band_table(FINEST_LEVEL)[name].length_iscn
        centromere_of(ring.homolog, name)
    for person in carriers("isochromosome", 10):
        ((_, iso),) = person.clones[0].derivatives.items()
        upper, lower = iso.homolog.span(0, iso.points[0]), iso.homolog.span(iso.points[0], 1e9)
        assert upper.flipped().length_iscn == pytest.approx(lower.length_iscn)
        assert {s.inverted for s in iso.homolog.segments} == {True, False}


def test_broken_chromosomes_carry_no_variant_inversion():
    everywhere = replace(HOSPITAL, kinds={"deletion": 1.0}, variant_inversions=200.0)
    paired = []
    for seed in range(60):
        person = draw_person(np.random.default_rng(seed), everywhere, abnormal=True)
        (((name, index), derivative),) = person.clones[0].derivatives.items()
        if name == "9":
            assert not any(segment.inverted for segment in derivative.homolog.segments)
            paired += person.clones[0].genome[name][1 - index].variants
    assert "inv(9)(p12q13)" in paired


def test_variant_inversions_can_be_made_frequent_and_nothing_else_changes():
    often = replace(HOSPITAL, variant_inversions=20.0)
    with pytest.raises(ConfigError, match="give a factor of 0 or more"):
        replace(HOSPITAL, variant_inversions=-1.0)
    inverted = 0
    for seed in range(200):
        usual, rich = (
            draw_person(np.random.default_rng(seed), hospital, abnormal=False).clones[0].genome
            for hospital in (HOSPITAL, often)
        )
        for name, homologs in rich.items():
            for before, after in zip(usual[name], homologs, strict=True):
                more = set(after.variants) - set(before.variants)
                assert all(variant.startswith(f"inv({name})") for variant in more)
                assert more or after == before
        inverted += sum("inv(9)(p12q13)" in homolog.variants for homolog in rich["9"])
    # A tenth of 400 chromosomes 9.
    assert 16 <= inverted <= 64


def test_mosaic_people_keep_a_normal_clone():
    hospital = replace(
        HOSPITAL, kinds={"robertsonian": 1.0}, mosaic_share=1.0, clone_fraction=(0.2, 0.3)
    )
    for seed in range(5):
        person = draw_person(np.random.default_rng(seed), hospital, abnormal=True)
        changed, normal = person.clones
        assert 0.2 <= changed.share <= 0.3
        assert changed.share + normal.share == pytest.approx(1.0)
        assert (num_chromosomes(changed), num_chromosomes(normal)) == (45, 46)
        assert len(changed.derivatives) == 1
        assert not normal.derivatives


def test_mosaics_and_recurrent_events_are_as_frequent_as_asked():
    hospital = replace(hospitals()[3], mosaic_share=0.5)
    people = [
        draw_person(np.random.default_rng(seed), hospital, abnormal=True) for seed in range(300)
    ]
    assert np.mean([len(person.clones) == 2 for person in people]) == pytest.approx(0.5, abs=0.12)
    only = replace(hospital, recurrent_share=1.0)
    known = {(one.kind, frozenset(one.chromosomes)) for one in RECURRENT["haematological"]}
    assert {(e.kind, frozenset(e.chromosomes)) for e in events(only, 200)} == known


def test_kinds_are_as_frequent_as_asked():
    drawn = Counter(event.kind for event in events(HOSPITAL, 2000))
    total = sum(HOSPITAL.kinds.values())
    for kind, weight in HOSPITAL.kinds.items():
        share = weight / total
        assert drawn[kind] / 2000 == pytest.approx(share, abs=4 * np.sqrt(share / 2000))


def test_sizes_follow_the_hospital():
    def median_size(median_size_mb):
        hospital = replace(
            HOSPITAL, kinds={"deletion": 1.0}, median_size_mb=median_size_mb, size_spread=0.01
        )
        return np.median([event.size_mb for event in events(hospital, 60)])

    assert median_size(8.0) == pytest.approx(8.0, rel=0.15)
    assert median_size(24.0) == pytest.approx(24.0, rel=0.15)


def test_breakpoints_prefer_light_bands():
    bands = band_table(FINEST_LEVEL)["2"]
    site = Site(np.random.default_rng(0), "2")
    light = np.mean([bands.at(site.point().iscn).stain == "gneg" for _ in range(600)])
    share = sum(b.bp_stop - b.bp_start for b in bands.bands if b.stain == "gneg") / bands.length_bp
    expected = 3 * share / (3 * share + 1 - share)
    assert light == pytest.approx(expected, abs=0.06)
    assert expected - share > 0.15


def test_pericentric_span_holds_the_centromere():
    site = Site(np.random.default_rng(1), "4")
    for _ in range(30):
        upper, lower = site.around_centromere(30.0)
        assert (upper.arm, lower.arm) == ("p", "q")
        assert lower.mb - upper.mb == pytest.approx(30.0)


@pytest.mark.parametrize("arm", ["p", "q"])
def test_ends_and_intervals_stay_in_their_arm(arm):
    site = Site(np.random.default_rng(2), "7")
    for _ in range(30):
        end = site.end(arm, 20.0)
        upper, lower = site.interval(arm, 20.0)
        assert {end.arm, upper.arm, lower.arm} == {arm}
        assert 15.9 < end.end_mb < 25.1
        assert lower.mb - upper.mb == pytest.approx(20.0)
