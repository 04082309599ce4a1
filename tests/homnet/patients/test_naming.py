"""Draft names of findings: as much as was read, and nothing that had to be guessed."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest

from homnet.errors import DataError
from homnet.karyotype.bands import band_table
from homnet.karyotype.chromosomes import BAND_LEVELS, CHROMOSOMES
from homnet.karyotype.kinds import SHOWN
from homnet.karyotype.nomenclature import Place, parse
from homnet.patients.finding import BreakpointEstimate, Finding
from homnet.patients.naming import Draft, draft_name, rob_name


def _finding(
    kind: str,
    chromosome: str = "5",
    start: float | None = None,
    stop: float | None = None,
    width: float = 0.1,
    level: int = 400,
) -> Finding:
    def place(mb: float | None) -> BreakpointEstimate | None:
        if mb is None:
            return None
        return BreakpointEstimate.at(chromosome, mb, mb - width, mb + width, level)

    kinds = {name: float(name == kind) for name in SHOWN}
    return Finding("h", "p", chromosome, 0.9, (), kinds, place(start), place(stop))


@pytest.mark.parametrize(
    ("finding", "name"),
    [
        (_finding("deletion", stop=22.0), "del(5)(p14)"),
        (_finding("deletion", start=165.0), "del(5)(q34)"),
        (_finding("deletion", start=74.0, stop=158.0), "del(5)(q13q33)"),
        # Within the short arm the inner breakpoint comes first.
        (_finding("deletion", start=22.0, stop=40.0), "del(5)(p13p14)"),
        (_finding("duplication", start=74.0, stop=158.0), "dup(5)(q13q33)"),
        (_finding("inversion", start=20.0, stop=120.0), "inv(5)(p14q23)"),
        (_finding("ring", start=5.0, stop=170.0), "r(5)(p15.3q35)"),
        (_finding("isochromosome", "17", stop=23.0), "i(17)(q10)"),
        (_finding("isochromosome", "18", start=17.2), "i(18)(p10)"),
        (_finding("insertion_translocation", "9", start=132.0), "add(9)(q34)"),
        (_finding("insertion_translocation", "9", stop=22.0), "add(9)(p21)"),
    ],
)
def test_names_say_kind_and_bands(finding: Finding, name: str) -> None:
    assert str(draft_name(finding)) == f"{name} draft, to be confirmed"


def test_a_partner_makes_a_translocation() -> None:
    nine = _finding("insertion_translocation", "9", start=132.0)
    twenty_two = _finding("deletion", "22", start=23.0)
    for pair in ((nine, twenty_two), (twenty_two, nine)):
        other = _finding("insertion_translocation", pair[0].chromosome, pair[0].start.mb)
        assert str(draft_name(other, pair[1])).startswith("t(9;22)(q34;q11.2)")
    assert str(rob_name("14", "13")).startswith("rob(13;14)(q10;q10)")
    assert rob_name("13", "1") is None
    assert rob_name("13", "13") is None


NINE = _finding("insertion_translocation", "9", start=132.0)


@pytest.mark.parametrize(
    ("finding", "partner"),
    [
        (Finding("h", "p", "5", 0.9), None),
        (_finding("deletion"), None),
        # A segment from a tip over the centromere: the band would name the end of the other arm.
        (_finding("deletion", "13", stop=50.0), None),
        # One that runs over the centromere leaves none, or makes two.
        (_finding("deletion", start=40.0, stop=60.0), None),
        (_finding("duplication", start=40.0, stop=60.0), None),
        (_finding("deletion", start=22.0), None),
        (_finding("insertion_translocation", start=22.0), None),
        # An insertion is no lost end.
        (_finding("insertion_translocation", start=80.0, stop=80.0), None),
        # Breakpoints that do not fit the kind: both in one arm, one only, or not the centromere.
        (_finding("ring", start=80.0, stop=120.0), None),
        (_finding("inversion", start=80.0), None),
        (_finding("duplication", stop=20.0), None),
        (_finding("isochromosome", start=165.0), None),
        (_finding("isochromosome", stop=20.0), None),
        # A Robertsonian translocation is named by its two types, not by breakpoints.
        (_finding("robertsonian", "13", stop=17.0), None),
        # A partner without an end to exchange, or the type itself.
        (NINE, Finding("h", "p", "22", 0.9)),
        (NINE, _finding("deletion", "22", start=23.0, stop=40.0)),
        (NINE, _finding("isochromosome", "22", start=15.0)),
        (NINE, _finding("deletion", "13", stop=50.0)),
        (NINE, NINE),
    ],
)
def test_what_would_be_a_guess_has_no_name(finding: Finding, partner: Finding | None) -> None:
    assert draft_name(finding, partner) is None


def test_what_is_probably_no_abnormality_has_no_name() -> None:
    sure = _finding("deletion", stop=22.0)
    for deletion, named in ((0.6, True), (0.4, False)):
        kinds = {**sure.kinds, "deletion": deletion, "none": 1 - deletion}
        assert (draft_name(replace(sure, kinds=kinds)) is not None) == named


def test_an_uncertain_breakpoint_is_a_range_or_has_a_question_mark() -> None:
    edge_mb = next(b.bp_stop for b in band_table(400)["5"].bands if b.label == "p14") / 1e6
    for width, band in ((2.0, "p13~p14"), (15.0, "?p13")):
        named = draft_name(_finding("deletion", stop=edge_mb, width=width))
        assert named is not None
        assert named.name == f"del(5)({band})"
    with pytest.raises(DataError):
        Draft.checked("del(5)(p99)", 400)


KIND_OF = {
    "add": "insertion_translocation",
    "del": "deletion",
    "dup": "duplication",
    "i": "isochromosome",
    "inv": "inversion",
    "r": "ring",
    "t": "insertion_translocation",
}


def _bounds_mb(chromosome: str, place: Place, level: int) -> tuple[float, float]:
    """First and last position of the bands of a breakpoint; around the centromere for p10, q10."""
    bands = band_table(level)[chromosome]
    if place.centromeric:
        middle = [b for b in band_table(850)[chromosome].bands if b.stain == "acen"]
        return middle[0].bp_start / 1e6, middle[-1].bp_stop / 1e6

    def among(name: str) -> bool:
        """Whether a band, or the merged band that it begins or ends, is named."""
        ends = sorted(name.split("-"), key=float)
        last = place.last or place.first
        return ends[-1][: len(place.first)] >= place.first and ends[0][: len(last)] <= last

    own = [b for b in bands.bands if b.arm == place.arm and among(b.name)]
    return min(b.bp_start for b in own) / 1e6, max(b.bp_stop for b in own) / 1e6


def _assert_means(name: str, level: int, findings: list[Finding]) -> str:
    """Reads a draft back, and compares type, kind and segment with what was found."""
    read = parse(name, level)
    found = {one.chromosome: one for one in findings}
    assert set(read.types) == set(found)
    assert KIND_OF[read.prefix] == findings[0].abnormal_kind
    for chromosome, places in zip(read.types, read.places, strict=True):
        one = found[chromosome]
        bounds = [_bounds_mb(chromosome, place, level) for place in places]
        if read.prefix == "i":
            # The arm named is kept, the other is the segment.
            ends = [None, *bounds] if places[0].arm == "q" else [*bounds, None]
        elif len(bounds) == 1:
            ends = [None, *bounds] if places[0].arm == "p" else [*bounds, None]
        else:
            # Inner before outer: the other way round on the short arm.
            ends = bounds if places[-1].arm == "q" else bounds[::-1]
        for end, estimate in zip(ends, (one.start, one.stop), strict=True):
            assert (end is None) == (estimate is None), (name, one)
            if end is not None:
                assert end[0] - 1e-6 <= estimate.mb <= end[1] + 1e-6, (name, one)
    return read.prefix


@pytest.mark.parametrize("level", BAND_LEVELS)
@pytest.mark.parametrize("chromosome", CHROMOSOMES)
def test_a_draft_read_back_is_the_finding(chromosome: str, level: int) -> None:
    """Every kind, with its segment at a tip, in an arm, over the centromere, certain or not."""
    bands = band_table(level)[chromosome]
    length_mb, centromere_mb = bands.length_bp / 1e6, bands.centromere_bp / 1e6
    q_mb = length_mb - centromere_mb
    ends = [None, centromere_mb * 0.3, centromere_mb - 0.05, centromere_mb + 0.05]
    ends += [centromere_mb + q_mb * 0.4, length_mb - q_mb * 0.1, None]
    drafted: Counter[str] = Counter()
    partners = {
        "insertion_translocation": _finding(
            "deletion", "7" if chromosome != "7" else "X", start=120.0, level=level
        ),
    }
    for number, (start, stop) in enumerate(itertools.combinations(ends, 2)):
        for kind in SHOWN[:-1]:
            found = _finding(kind, chromosome, start, stop, (0.01, 3.0, 9.0)[number % 3], level)
            for other in {None, partners.get(kind)}:
                draft = draft_name(found, other)
                if draft is not None:
                    used = [found] if other is None else [found, other]
                    drafted[_assert_means(draft.name, level, used)] += 1
    assert set(drafted) == set(KIND_OF)


@pytest.mark.parametrize("chromosome", CHROMOSOMES)
def test_a_lost_end_of_one_arm_always_has_a_draft(chromosome: str) -> None:
    bands = band_table(550)[chromosome]
    for band in bands.bands:
        middle_mb = (band.bp_start + band.bp_stop) / 2e6
        place = {"stop" if band.arm == "p" else "start": middle_mb}
        for kind, prefix in (("deletion", "del"), ("insertion_translocation", "add")):
            draft = draft_name(_finding(kind, chromosome, **place, width=1e-3, level=550))
            assert draft is not None
            assert draft.name == f"{prefix}({chromosome})({band.label})"
