"""Requests, answers and errors of API version 1; the source of the OpenAPI schema."""

import base64
import binascii
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    RootModel,
    StringConstraints,
    WithJsonSchema,
)

from homnet.cohorts.pairs import PAIR_BYTES, PAIR_SHAPE
from homnet.imaging.page_scale import Source
from homnet.karyotype.chromosomes import BAND_LEVELS, CHROMOSOMES, SEQUENCE_LENGTH
from homnet.patients.finding import Question
from homnet.patients.verdict import AbstentionCode, Decision

NOTICE: Final = "Research use only. Not for diagnosis: a qualified person must look at every case."
_EXAMPLE_SEQUENCE: Final[list[JsonValue]] = [30, 90, 160, 140, 60, 110, 40]


def _pair_bytes(value: Any) -> bytes:
    """Converts a pair from base64 or lists to the bytes of a (2, 2, 512) tensor."""
    if isinstance(value, str):
        try:
            content = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("not base64") from None
        if len(content) != PAIR_BYTES:
            raise ValueError(
                f"{len(content)} bytes, expected the {PAIR_BYTES} of uint8 {PAIR_SHAPE}"
            )
        return content
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("expected base64 of 2048 bytes, or a list of two homologs")
    pair_PCL = np.zeros(PAIR_SHAPE, np.uint8)
    for homolog, chromatids in enumerate(value):
        if chromatids is None and homolog == 1:
            continue
        if not isinstance(chromatids, list) or len(chromatids) != 2:
            raise ValueError(f"homolog {homolog}: expected a list of two chromatids")
        for chromatid, sequence in enumerate(chromatids):
            darkness = _darkness(sequence)
            pair_PCL[homolog, chromatid, : len(darkness)] = darkness
    return pair_PCL.tobytes()


def _darkness(sequence: Any) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    if not isinstance(sequence, list) or not 1 <= len(sequence) <= SEQUENCE_LENGTH:
        raise ValueError(f"a chromatid is a list of 1 to {SEQUENCE_LENGTH} numbers")
    try:
        # Unlike Python, JSON distinguishes true from 1.
        if set(map(type, sequence)) == {int}:
            return np.frombuffer(bytes(sequence), np.uint8)
    except ValueError:
        pass
    raise ValueError("darkness is a whole number from 0 to 255")


Pair = Annotated[
    bytes,
    PlainValidator(_pair_bytes),
    WithJsonSchema(
        {
            "description": "Darkness (255 - grey) of two homologs, their left and right chromatids "
            f"and {SEQUENCE_LENGTH} positions, p-arm first: base64 of {PAIR_BYTES} bytes in C "
            "order, 0 after the end of a chromosome, or lists that end where the chromosome ends. "
            "A homolog that is missing (a male X or Y) is all 0, or null.",
            "anyOf": [
                {"type": "string", "contentEncoding": "base64", "maxLength": 2732},
                {
                    "type": "array",
                    "minItems": 2,
                    "maxItems": 2,
                    "items": {
                        "type": ["array", "null"],
                        "minItems": 2,
                        "maxItems": 2,
                        "items": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": SEQUENCE_LENGTH,
                            "items": {"type": "integer", "minimum": 0, "maximum": 255},
                        },
                    },
                },
            ],
        }
    ),
]
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128),
    Field(description="A pseudonym."),
]
Chromosome = Literal[CHROMOSOMES]  # type: ignore[valid-type]
BandLevel = Literal[BAND_LEVELS]  # type: ignore[valid-type]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PairOfCell(_Request):
    """The two homologs of one chromosome type in one cell."""

    cell_id: Name
    chromosome: Chromosome
    band_level: BandLevel
    pair: Pair
    num_copies: Annotated[int | None, Field(ge=1, le=9)] = Field(
        default=None,
        description="Chromosomes of this type in the cell. More than the two of the pair are noted "
        "in the verdict, not judged.",
    )


class Patient(_Request):
    """A patient's pairs, from any number of cells."""

    hospital: Name
    patient_id: Name
    pairs: Annotated[list[PairOfCell], Field(min_length=1, fail_fast=True)]


class DiagnoseRequest(_Request):
    """Patients of one or more hospitals."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "patients": [
                        {
                            "hospital": "hospital-1",
                            "patient_id": "p-0001",
                            "pairs": [
                                {
                                    "cell_id": "c-01",
                                    "chromosome": "21",
                                    "band_level": 550,
                                    "pair": [
                                        [_EXAMPLE_SEQUENCE, _EXAMPLE_SEQUENCE],
                                        [_EXAMPLE_SEQUENCE[:4], _EXAMPLE_SEQUENCE[:4]],
                                    ],
                                },
                                {
                                    "cell_id": "c-01",
                                    "chromosome": "X",
                                    "band_level": 550,
                                    "pair": [[_EXAMPLE_SEQUENCE, _EXAMPLE_SEQUENCE], None],
                                },
                            ],
                        }
                    ]
                }
            ]
        },
    )

    patients: Annotated[list[Patient], Field(min_length=1, fail_fast=True)]


_CALLER_REQUEST_ID: Final[Any] = Field(
    default=None, description="What the caller sent as X-Request-Id."
)


class ModelOfHospital(BaseModel):
    """The model that serves a hospital, and the rule that turns its evidence into verdicts."""

    hospital: str
    version: str = Field(description="Digest of the checkpoint: weights, calibration, provenance.")
    weights: str = Field(description="Digest of form and weights.")
    reader: str = Field(description="Digest of the reader's form and weights, or none.")
    samples_per_px: float | None = Field(
        description="Samples per image pixel that its sequences must have; null if it is unknown."
    )
    calibration: str = Field(description="Digest of the calibration of patients, or none.")
    calibrated_on: list[str] = Field(
        description="Hospitals whose patients set the threshold: this one by name, and the number "
        "of the others; empty: nobody is assessed."
    )
    threshold: float | None = Field(description="Score from which a patient is called abnormal.")
    specificity: float | None = Field(
        description="Share of healthy referrals that the threshold is set to call normal."
    )
    prevalence: float | None = Field(
        description="Share of carriers among the patients, on which probabilities depend."
    )


class Abstention(BaseModel):
    """Why a patient is not assessed."""

    code: AbstentionCode
    text: str


class Quality(BaseModel):
    """What a verdict could rest on."""

    num_cells: int
    band_levels: dict[str, int] = Field(description="Number of cells by band level.")
    num_levels_estimated: int = Field(
        description="Cells whose band level was not stated and was estimated from their bands."
    )
    num_types_assessed: int = Field(description="Types, of 23, with enough cells.")
    turned: dict[str, int] = Field(
        description="Cells in which a chromosome of a type lay upside down and was turned, by type."
    )


class Clone(BaseModel):
    """The cells of a type that look abnormal."""

    num_cells: int = Field(description="Cells that were assessed.")
    num_abnormal: int = Field(description="Cells more likely abnormal than normal.")
    share: float = Field(description="Most likely share of abnormal cells.")
    low: float = Field(description="Lower end of its 95 % interval.")
    high: float
    text: str = Field(description="The same as printed in a report.")


class Breakpoint(BaseModel):
    """Position of a breakpoint on the ideogram of its type."""

    mb: float = Field(description="Megabases from the tip of the short arm.")
    low_mb: float = Field(description="Lower end of the 90 % interval.")
    high_mb: float
    level: int = Field(description="Band level of the bands.")
    band: str = Field(description="One that joins finer ones has their ends: p36.3-32.")
    low_band: str
    high_band: str


class CellOfFinding(BaseModel):
    """The part of one cell in the finding on a type."""

    cell_id: str
    band_level: BandLevel
    probability: float | None = Field(
        description="That the pair of this cell is abnormal, at even odds."
    )
    homolog: int | None = Field(description="The homolog that looks abnormal, 0 or 1, if read.")
    homolog_probability: float | None = Field(
        description="That it is this homolog, given that one of them is abnormal."
    )
    scores: list[list[float]] | None = Field(
        description="Of flagged types that were read: probability at each position of both "
        "homologs of belonging to the abnormal segment."
    )


class NotAnswered(BaseModel):
    """A question about a type that was not answered."""

    question: Question
    reason: str
    cells: list[str] = Field(description="Cells concerned; empty: all.")


class FindingOfType(BaseModel):
    """What was found on a type: a draft, to be confirmed."""

    hospital: str
    patient_id: str
    chromosome: Chromosome
    probability: float | None = Field(description="That the type is abnormal, all cells together.")
    kinds: dict[str, float] = Field(
        description="Probability of each kind; none: nothing is seen. Empty if not read."
    )
    start: Breakpoint | None = Field(
        description="Nearer the tip of the short arm; null: not read, or the segment runs there."
    )
    stop: Breakpoint | None = Field(
        description="Nearer the tip of the long arm; null: not read, or the segment runs there."
    )
    cells: list[CellOfFinding]
    not_answered: list[NotAnswered]
    reader: str | None = Field(description="Digest of the reader's form and weights.")


class VerdictOnType(BaseModel):
    """One type of a patient, and its part in the verdict."""

    chromosome: Chromosome
    probability: float | None
    evidence: float | None = Field(
        description="Log likelihood ratio, abnormal over normal; null with too few cells."
    )
    flagged: bool = Field(description="Whether the verdict rests on this type.")
    clone: Clone | None
    draft: str | None = Field(description="Name after ISCN, called a draft; null where none fits.")
    not_assessed: list[str] = Field(description="What was not assessed of the type, and why.")
    finding: FindingOfType | None = Field(description="Null if no pair could be compared.")


class Verdict(BaseModel):
    """The verdict on a patient; the same JSON that ``jobs/diagnose.py patients`` writes."""

    hospital: str
    patient_id: str
    use: str
    decision: Decision
    verdict: str = Field(description="The decision in words.")
    abstentions: list[Abstention] = Field(description="Why the patient is not assessed.")
    probability: float | None = Field(description="Of an abnormality, at the prevalence.")
    prevalence: float | None
    score: float | None = Field(description="Evidence of all types together.")
    threshold: float | None = Field(description="Score from which a patient is called abnormal.")
    specificity: float | None = Field(
        description="Share of healthy referrals that the threshold is set to call normal."
    )
    supported_specificity: float | None = Field(
        description="Highest specificity that the healthy referrals behind it can support."
    )
    flagged: list[Chromosome] = Field(description="Types that the verdict rests on, first most.")
    quality: Quality
    notes: list[str] = Field(description="Conclusions from several types together.")
    cells: dict[str, int] = Field(description="Band level of each cell.")
    types: list[VerdictOnType] = Field(description="1 to 22, X, and Y if present.")
    versions: dict[str, str]


class Region(BaseModel):
    """A part of one homolog that the reader considers abnormal."""

    homolog: int = Field(ge=0, le=1)
    start: int = Field(description="First sample of the sequence.")
    stop: int = Field(description="The sample after the last.")


class PairEvidence(BaseModel):
    """The contribution of the pair of one cell."""

    cell_id: str
    weight: float = Field(description="Weight in its bag, 0..1 (Eq. 9).")
    added_logit: float = Field(description="What it adds to the logit of its bag (Eq. 10).")
    sequence: str | None = Field(
        default=None, description="base64 of its 2,048 bytes, where sequences were asked for."
    )
    regions: list[Region] | None = Field(
        default=None, description="Where it looks abnormal, of flagged types that were read."
    )


class TypeEvidence(BaseModel):
    """HomNet's evidence on one chromosome type of one patient, before calibration."""

    chromosome: Chromosome
    num_pairs: int = Field(description="Pairs that were assessed.")
    num_bags: int = Field(description="Bags they were divided into; logits are averaged.")
    logit: float
    pairs: list[PairEvidence]


class _ImageOfManifest(BaseModel):
    row: int = Field(description="Row of the manifest; its header is row 1.")
    cell_id: str
    chromosome: Chromosome
    homolog: int


class RefusedImage(_ImageOfManifest):
    """An image without a usable sequence."""

    reason: str


class NotedImage(_ImageOfManifest):
    """An image with a note: used, although something is odd, or a further copy of a type."""

    note: str


class LeftOut(BaseModel):
    """A chromosome of a karyogram that was not used."""

    number: int = Field(description="Its number on the picture.")
    chromosome: Chromosome | Literal[""] = Field(description="Type; empty if none is certain.")
    reason: str


class Corrected(BaseModel):
    """A chromosome of a karyogram whose type a person corrected."""

    number: int = Field(description="Its number on the picture.")
    before: Chromosome | Literal[""] = Field(description="Type as read; empty: left out.")
    chromosome: Chromosome | Literal[""] = Field(description="Type as given; empty: left out.")


class NotedChromosome(BaseModel):
    """A chromosome of a karyogram that was used, although something about it is odd."""

    number: int = Field(description="Its number on the picture.")
    note: str


class KaryogramOfCell(BaseModel):
    """What became of one karyogram of a patient."""

    picture: str = Field(description="Name of the file.")
    cell_id: str
    reason: str = Field(description="Why the picture was refused; empty if it was read.")
    left_out: list[LeftOut] = []
    corrected: list[Corrected] = []
    noted: list[NotedChromosome] = []


class PatientResult(BaseModel):
    """The verdict on a patient with the evidence behind it."""

    verdict: Verdict
    evidence: list[TypeEvidence] = Field(description="Of each type that was assessed.")
    refused_images: list[RefusedImage] = []
    noted_images: list[NotedImage] = []
    karyograms: list[KaryogramOfCell] = Field(
        default=[], description="Where karyograms were sent: what became of each."
    )
    page: str | None = Field(
        default=None, description="The patient's report as HTML, where pages were asked for."
    )


class _Response(BaseModel):
    notice: str = NOTICE
    request_id: str = Field(description="Made by the endpoint; also in its log and audit log.")
    caller_request_id: str | None = _CALLER_REQUEST_ID


class DiagnoseResponse(_Response):
    """The verdicts on all patients of a request, and the models used."""

    models: list[ModelOfHospital]
    patients: list[PatientResult]


class BoxOnPicture(BaseModel):
    """A rectangle on a picture, in its pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


class ChromosomeOnPicture(BaseModel):
    """A chromosome that was found on a karyogram."""

    number: int = Field(description="From 1 in reading order; corrections name it.")
    chromosome: Chromosome | Literal[""] = Field(description="Type; empty if none is certain.")
    homolog: int | None = Field(
        description="0, 1, or more for further copies, from the left; null if it is left out."
    )
    probability: float = Field(description="Of the most probable type.")
    box: BoxOnPicture
    outline: list[tuple[float, float]] = Field(
        description="Points (x, y) around it in pixels of the picture; the last is the first."
    )
    flags: list[str] = Field(
        description="separated: it touched another; unlike_its_type: its bands look otherwise."
    )
    reason: str = Field(description="Why it is left out; empty if it is used.")
    correctable: bool = Field(
        description="Whether a correction can give it a type: it is one chromosome and measured."
    )


class PictureRead(BaseModel):
    """What was found on the picture of a karyogram."""

    picture: str = Field(description="Name of the file.")
    reason: str = Field(description="Why it is refused; empty if it was read.")
    width: int | None = Field(default=None, description="In pixels; null if it is no picture.")
    height: int | None = None
    layout: str | None = Field(default=None, description="How the chromosomes are arranged.")
    px_per_um: float | None = Field(default=None, description="Pixels per micrometre.")
    scale: Source | None = Field(default=None, description="Where that number comes from.")
    band_level: BandLevel | None = Field(
        default=None, description="Band level of the cell, estimated from its chromosomes."
    )
    chromosomes: list[ChromosomeOnPicture] = []
    preview: str | None = Field(
        default=None,
        description="base64 of a grey JPEG of the picture, where previews were asked for.",
    )


class KaryogramsResponse(_Response):
    """What was found on the pictures of a request."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "notice": NOTICE,
                    "request_id": "6f3c2b1e0d9a48579c1f20e3b4a5d687",
                    "caller_request_id": None,
                    "pictures": [
                        {
                            "picture": "p-0001_c-01.png",
                            "reason": "",
                            "width": 1200,
                            "height": 841,
                            "layout": "sex chromosomes last",
                            "px_per_um": 15.5,
                            "scale": "scale bar",
                            "band_level": 550,
                            "chromosomes": [
                                {
                                    "number": 1,
                                    "chromosome": "1",
                                    "homolog": 0,
                                    "probability": 1.0,
                                    "box": {"left": 69, "top": 47, "right": 97, "bottom": 205},
                                    "outline": [[70.0, 60.5], [82.0, 47.5], [96.0, 60.5]],
                                    "flags": [],
                                    "reason": "",
                                    "correctable": True,
                                }
                            ],
                            "preview": None,
                        },
                        {"picture": "p-0001_c-02.png", "reason": "the page is blank"},
                    ],
                }
            ]
        },
    )

    pictures: list[PictureRead]


class Correction(_Request):
    """The type of a chromosome as a person sees it."""

    picture: Annotated[str, StringConstraints(max_length=1024)] = Field(
        description="Name of the file."
    )
    number: int = Field(
        strict=True,
        ge=1,
        le=1000,
        description="Of the chromosome, as in the answer of /v1/karyograms.",
    )
    chromosome: Chromosome | Literal[""] = Field(description="Its type; empty leaves it out.")
    before: Chromosome | Literal[""] | None = Field(
        default=None,
        description="Type that /v1/karyograms gave, empty if it was left out: refused if the "
        "picture is read otherwise now.",
    )


class Corrections(RootModel[list[Correction]]):
    """The content of corrections.json."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                [
                    {"picture": "p-0001_c-01.png", "number": 17, "chromosome": "9", "before": ""},
                    {"picture": "p-0001_c-01.png", "number": 40, "chromosome": ""},
                ]
            ]
        }
    )


class ModelsResponse(BaseModel):
    """The models that serve the hospitals of a key."""

    models: list[ModelOfHospital]


class Health(BaseModel):
    """Whether the process is alive, or ready to serve."""

    status: Literal["ok", "starting"]


class ErrorBody(BaseModel):
    """The reason why a request was refused."""

    request_id: str = Field(description="Made by the endpoint; also in its log.")
    caller_request_id: str | None = _CALLER_REQUEST_ID
    code: str = Field(description="For programs.")
    message: str = Field(description="One sentence: what, where, what to do.")
