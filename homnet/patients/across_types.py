"""Conclusions from several types of a patient: translocations and missing homologs.

Shape suffix: G types of one patient.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from homnet.bags.assessment import Assessment, NotAssessed
from homnet.cohorts.pairs import LEVEL_DOUBTED, SAME_PIXELS, THIRD_COPY, TURNED
from homnet.karyotype.chromosomes import ACROCENTRICS
from homnet.karyotype.kinds import NO_ABNORMALITY
from homnet.karyotype.variants import known_variant
from homnet.patients.clonality import MIN_CLONE
from homnet.patients.finding import Finding
from homnet.patients.naming import EXCHANGED, Draft, draft_name, rob_name
from homnet.patients.verdict import TypeVerdict, by_evidence

_FOREIGN: Final = "insertion_translocation"
"""Kind with material from another type."""
_FOREIGN_WITH_PARTNER: Final = 0.9
"""Share of types with foreign material that have an abnormal partner, which gave or took the end:
.62 to .98 in the simulated populations (reciprocal translocations against additions)."""
_OTHERS_WITH_PARTNER: Final = 0.1
"""The same for all other kinds: the donor of an insertion shows a deletion, and tumours have
several abnormalities. It limits the effect of a partner on a clear kind."""
_SHARED_CELLS: Final = 0.5
"""Minimum share of cells with both abnormalities among cells with either."""
_MISSING: Final = 0.5
"""Minimum share of cells without a homolog for it to be reported as missing."""


_SAID_OF_IMAGES: Final = {
    TURNED: "Chromosomes were upside down and were turned",
    SAME_PIXELS: "Images have the same pixels as images under other names",
}


def with_partners(findings: Sequence[Finding], evidence_G: NDArray[np.float64]) -> list[Finding]:
    """Corrects the kinds of a patient's findings for the evidence on the other types.

    Foreign material mostly occurs with a second abnormal type, the other kinds mostly alone. The
    probability of each kind is therefore multiplied by a likelihood ratio of the other types: one
    of them (each equally likely) is abnormal with the probability above, against none is abnormal.
    The probability that the type shows no abnormality is unchanged.

    Args:
        findings: findings on the patient's types.
        evidence_G: log likelihood ratios, abnormal over normal; NaN for types with too few cells.
    """
    if np.isfinite(evidence_G).sum() < 2:
        return list(findings)
    found = []
    for g, one in enumerate(findings):
        others = np.delete(evidence_G, g)
        others = others[np.isfinite(others)]
        ratio = float(np.exp(np.logaddexp.reduce(others) - np.log(len(others))))
        foreign, other = (
            1 - share + share * ratio for share in (_FOREIGN_WITH_PARTNER, _OTHERS_WITH_PARTNER)
        )
        kinds = {
            kind: p * (foreign if kind == _FOREIGN else other)
            for kind, p in one.kinds.items()
            if kind != NO_ABNORMALITY
        }
        abnormal = sum(kinds.values())
        if abnormal > 0:
            normal = one.kinds[NO_ABNORMALITY]
            kinds = {kind: p / abnormal * (1 - normal) for kind, p in kinds.items()}
            one = replace(one, kinds={**kinds, NO_ABNORMALITY: normal})
        found.append(one)
    return found


def missing_homologs(
    left_out: Sequence[NotAssessed], assessed: Collection[str], num_cells: int
) -> dict[str, int]:
    """Number of cells with a single homolog, by type, where there are many such cells.

    An X beside a Y has no homolog to miss, nor has a Y.

    Args:
        left_out: types and cells left out.
        assessed: types with both homologs in some cells; a Y of a man with two is among them.
        num_cells: number of the patient's cells.
    """
    # A type that was not sent is left out, too, without cells: the Y of a woman.
    has_y = "Y" in assessed or any(one.chromosome == "Y" and one.cells for one in left_out)
    of_man = {"X", "Y"} if has_y else {"Y"}
    return {
        one.chromosome: len(one.cells)
        for one in left_out
        if one.reason == "single_homolog"
        and one.chromosome not in of_man
        and len(one.cells) >= max(2.0, _MISSING * num_cells)
    }


def translocation_partner(flagged: Sequence[TypeVerdict]) -> tuple[TypeVerdict, TypeVerdict] | None:
    """The two types of a likely reciprocal translocation, or None.

    They are the two types with the most evidence, if the same cells show both. If a reader was
    used, both must also be possible sides of an exchange, and one must show foreign material.

    Args:
        flagged: types that the verdict rests on, in descending order of evidence.
    """
    if len(flagged) < 2:
        return None
    one, other = flagged[:2]
    if one.finding is None or other.finding is None:
        return None
    cells, others = (_abnormal_cells(each.finding) for each in (one, other))
    if len(cells & others) < max(2.0, _SHARED_CELLS * len(cells | others)):
        return None
    kinds = [each.finding.abnormal_kind for each in (one, other) if each.finding is not None]
    if None not in kinds and not (_FOREIGN in kinds and set(map(str, kinds)) <= EXCHANGED):
        return None
    return one, other


def of_one_clone(
    types: Sequence[TypeVerdict],
) -> tuple[list[TypeVerdict], tuple[str, ...]]:
    """Takes back the flags of types that are no clone, if another flagged type is one.

    Returns:
        The types, and a sentence on each whose flag was taken back.
    """
    lonely = [one for one in types if one.flagged and not (one.clone and one.clone.clonal)]
    if len(lonely) == sum(one.flagged for one in types):
        return list(types), ()
    names = {one.chromosome for one in lonely}
    kept = [
        replace(one, flagged=False, draft=None) if one.chromosome in names else one for one in types
    ]
    return kept, tuple(
        f"Chromosome {one.chromosome} looks abnormal in fewer than {MIN_CLONE} cells: no clone, "
        "and no part of this verdict."
        for one in lonely
    )


def with_joint_draft(types: Sequence[TypeVerdict]) -> list[TypeVerdict]:
    """Gives both types of a likely exchange its name, or none.

    The draft of one type alone would name another abnormality: additional material of unknown
    origin, or a deletion.
    """
    pair = translocation_partner(by_evidence(types))
    if pair is None:
        return list(types)
    names, draft = {one.chromosome for one in pair}, draft_of(*pair)
    return [replace(one, draft=draft) if one.chromosome in names else one for one in types]


def notes(
    flagged: Sequence[TypeVerdict],
    missing: Mapping[str, int],
    num_cells: int,
) -> tuple[str, ...]:
    """Report sentences on several types together.

    Args:
        flagged: types that the verdict rests on, in descending order of evidence.
        missing: result of :func:`missing_homologs`.
        num_cells: number of cells of the patient.
    """
    found = []
    pair = translocation_partner(flagged)
    if pair is not None:
        one, other = pair
        named = draft_of(one, other)
        if named is not None:
            suggested = f"a reciprocal translocation between them is suggested: {named}."
        elif None in {_kind(one), _kind(other)}:
            suggested = "an exchange between them, or two abnormalities of one clone."
        else:
            suggested = (
                "an exchange between them (translocation or insertion) is suggested; its "
                "breakpoints have no certain name."
            )
        found.append(
            f"Chromosomes {one.chromosome} and {other.chromosome} look abnormal in the same cells: "
            + suggested
        )
    for one in flagged:
        if (variant := _variant(one.finding)) is not None:
            found.append(
                f"What is seen on chromosome {one.chromosome} is in the place of a common normal "
                f"variant: {variant}."
            )
        if _kind(one) == "duplication":
            found.append(
                f"Whether the duplication on chromosome {one.chromosome} is direct or inverted was "
                "not assessed."
            )
    for chromosome, count in missing.items():
        text = f"Chromosome {chromosome} has one homolog only in {count} of {num_cells} cells"
        fused = _fused_with(chromosome, flagged)
        if fused is None:
            no_y = " and no Y was used" if chromosome == "X" else ""
            text += (
                f"{no_y}: a missing chromosome, one that is part of another, or one whose image "
                "was not used. Not assessed here."
            )
        else:
            named = rob_name(chromosome, fused.chromosome) if _kind(fused) else None
            text += f", and chromosome {fused.chromosome} looks abnormal: "
            text += (
                "a Robertsonian translocation of both is possible."
                if named is None
                else f"a Robertsonian translocation is suggested: {named}."
            )
        found.append(text)
    return tuple(found)


def _kind(one: TypeVerdict) -> str | None:
    return None if one.finding is None else one.finding.abnormal_kind


def _fused_with(chromosome: str, flagged: Sequence[TypeVerdict]) -> TypeVerdict | None:
    """The flagged type with most evidence that may hold the arm of a missing acrocentric."""
    fitting = (
        one
        for one in flagged
        if {chromosome, one.chromosome} <= set(ACROCENTRICS)
        and one.chromosome != chromosome
        and _kind(one) in {None, "robertsonian"}
    )
    return next(fitting, None)


def _variant(finding: Finding | None) -> str | None:
    """The normal variant in whose place a finding lies, or None."""
    kind = None if finding is None else finding.abnormal_kind
    if finding is None or kind is None or (finding.start is None and finding.stop is None):
        return None
    start, stop = (
        None if place is None else (place.low_mb, place.high_mb)
        for place in (finding.start, finding.stop)
    )
    return known_variant(finding.chromosome, kind, start, stop)


def quality_notes(assessment: Assessment, patient: tuple[str, str]) -> tuple[str, ...]:
    """Report sentences on what was noticed in a patient's images, whatever the verdict."""
    num_cells = len(assessment.levels.get(patient, {}))
    copies = assessment.flagged(THIRD_COPY, patient)
    found = [
        f"Chromosome {chromosome} has more than two copies in {count} of {num_cells} cells: two "
        "were compared, the others not looked at, and numbers of chromosomes are not judged here."
        for chromosome, count in copies.items()
    ]
    for flag, text in _SAID_OF_IMAGES.items():
        named = ", ".join(
            f"chromosome {chromosome} in {count} {'cell' if count == 1 else 'cells'}"
            for chromosome, count in assessment.flagged(flag, patient).items()
        )
        found += [f"{text}: {named}."] if named else []
    doubted = assessment.cells_flagged(LEVEL_DOUBTED, patient)
    if doubted:
        cells = f"cell{'s' if len(doubted) > 1 else ''} {', '.join(doubted)}"
        found.append(
            f"The bands of {cells} are not those of the stated band level; poorer ones count as "
            "they look if the cell has 16 images or more."
        )
    return tuple(found)


def draft_of(one: TypeVerdict, other: TypeVerdict) -> Draft | None:
    """Draft name of a translocation; None unless both exchanged ends have a name."""
    for first, second in ((one.finding, other.finding), (other.finding, one.finding)):
        if first is not None and second is not None and first.abnormal_kind == _FOREIGN:
            return draft_name(first, second)
    return None


def _abnormal_cells(finding: Finding | None) -> set[str]:
    cells = () if finding is None else finding.cells
    return {cell.cell_id for cell in cells if cell.looks_abnormal}
