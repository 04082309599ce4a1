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
    StringConstraints,
    WithJsonSchema,
)

from homnet.bags.assessment import Reason
from homnet.cohorts.pairs import PAIR_BYTES, PAIR_SHAPE
from homnet.karyotype.chromosomes import BAND_LEVELS, CHROMOSOMES, SEQUENCE_LENGTH

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
    # Unlike numpy, JSON distinguishes true and 1.0 from 1.
    if not all(type(number) is int and 0 <= number <= 255 for number in sequence):
        raise ValueError("darkness is a whole number from 0 to 255")
    return np.array(sequence, np.uint8)


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


class Patient(_Request):
    """A patient's pairs, from any number of cells."""

    hospital: Name
    patient_id: Name
    pairs: Annotated[list[PairOfCell], Field(min_length=1)]


class DiagnoseRequest(_Request):
    """Patients of one or more hospitals."""

    model_config = ConfigDict(
        extra="forbid",
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

    patients: Annotated[list[Patient], Field(min_length=1)]


class ModelOfHospital(BaseModel):
    """The model that serves a hospital, and the rule that turns its scores into verdicts."""

    hospital: str
    version: str = Field(description="Digest of the checkpoint: weights, calibration, provenance.")
    weights: str = Field(description="Digest of form and weights.")
    calibration: str = Field(description="Digest of temperature, threshold and prior.")
    calibrated: bool = Field(description="False: no calibration of this hospital; threshold 0.5.")
    threshold: float = Field(description="Probability from which a type is called abnormal.")
    temperature: float = Field(description="Divisor of the logits.")


class Region(BaseModel):
    """A part of one homolog that the reader of findings considers abnormal."""

    homolog: int = Field(ge=0, le=1)
    start: int = Field(description="First sample of the sequence.")
    stop: int = Field(description="The sample after the last.")


class PairEvidence(BaseModel):
    """The contribution of the pair of one cell to the verdict."""

    cell_id: str
    weight: float = Field(description="Weight in its bag, 0..1 (Eq. 9).")
    added_logit: float = Field(description="What it adds to the logit of its bag (Eq. 10).")
    sequence: str | None = Field(
        default=None, description="base64 of its 2,048 bytes, where sequences were asked for."
    )
    homolog: int | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The homolog that looks abnormal, where a reader was used.",
    )
    homolog_probability: float | None = Field(
        default=None, description="Probability that it is this homolog, given that one of them is."
    )
    regions: list[Region] | None = Field(
        default=None, description="Where it looks abnormal, where a reader was used."
    )


class Breakpoint(BaseModel):
    """Position of a breakpoint on the ideogram of its type."""

    mb: float = Field(description="Megabases from the tip of the short arm.")
    low_mb: float = Field(description="Lower end of the 90 % interval.")
    high_mb: float
    level: int = Field(description="Band level of the bands.")
    band: str
    low_band: str
    high_band: str


class TypeFinding(BaseModel):
    """The draft finding of a reader for a flagged type, to be confirmed."""

    draft: str | None = Field(
        default=None,
        description="Name after ISCN, called a draft; absent where none fits without guessing.",
    )
    kinds: dict[str, float] = Field(description="Probability of each kind; none: nothing is seen.")
    start: Breakpoint | None = Field(
        default=None, description="Nearer the tip of the short arm; absent: the segment runs there."
    )
    stop: Breakpoint | None = Field(
        default=None, description="Nearer the tip of the long arm; absent: the segment runs there."
    )
    reader: str = Field(description="Digest of the reader's form and weights.")


class TypeResult(BaseModel):
    """The verdict on one chromosome type of one patient."""

    chromosome: Chromosome
    num_pairs: int = Field(description="Pairs that were assessed.")
    num_bags: int = Field(description="Bags they were divided into; logits are averaged.")
    logit: float
    probability: float = Field(description="Calibrated for the hospital.")
    abnormal: bool = Field(description="Whether the probability reaches the hospital's threshold.")
    finding: TypeFinding | None = Field(
        default=None, description="Of an abnormal type, where a reader of findings is configured."
    )
    pairs: list[PairEvidence]


class NotAssessedType(BaseModel):
    """A type without a verdict, with the reason."""

    chromosome: Chromosome
    cells: list[str] = Field(description="Cells that were left out; empty if no pair was sent.")
    reason: Reason
    explanation: str


class RefusedImage(BaseModel):
    """An image without a usable sequence."""

    row: int = Field(description="Row of the manifest; its header is row 1.")
    cell_id: str
    chromosome: Chromosome
    homolog: int
    reason: str


class PatientResult(BaseModel):
    """Verdicts on the types of one patient."""

    hospital: str
    patient_id: str
    flagged: list[Chromosome] = Field(description="Types called abnormal.")
    types: list[TypeResult]
    not_assessed: list[NotAssessedType]
    refused_images: list[RefusedImage] = []


class DiagnoseResponse(BaseModel):
    """The verdicts on all patients of a request, and the models used."""

    notice: str = NOTICE
    request_id: str
    models: list[ModelOfHospital]
    patients: list[PatientResult]


class ModelsResponse(BaseModel):
    """The models that serve the hospitals of a key."""

    models: list[ModelOfHospital]


class Health(BaseModel):
    """Whether the process is alive, or ready to serve."""

    status: Literal["ok", "starting"]


class ErrorBody(BaseModel):
    """The reason why a request was refused."""

    request_id: str
    code: str = Field(description="For programs.")
    message: str = Field(description="One sentence: what, where, what to do.")
