"""From readings to findings, for evaluation, reports and serving.

Each type is read alone; verdicts then take the patient's other types into account
(:func:`homnet.patients.across_types.with_partners`).

Shape suffixes: T types of patients, B bags, K cells, N pairs, P homologs, L stretched positions,
G places of a segment, X kinds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax

from homnet.bags.assessment import Assessment, PatientType
from homnet.karyotype.chromosomes import BAND_LEVELS, SEQUENCE_LENGTH
from homnet.karyotype.kinds import SHOWN
from homnet.locations import Location
from homnet.model.checkpoint import Checkpoint
from homnet.patients.finding import BreakpointEstimate, CellFinding, Finding
from homnet.reader.network import Reader, ReaderConfig, Reading
from homnet.reader.places import mb_of_share, unstretched

Floats = NDArray[np.float64]

INTERVAL: Final = 0.9
"""Target coverage of the breakpoint intervals."""
_BATCH_CELLS: Final = 640
"""Maximum number of pairs per pass, padding included."""


@dataclass(frozen=True)
class Place:
    """One end of a segment, as shares of the reference chromosome's visible length."""

    share: float
    """Best estimate; a tip is exactly 0 or 1."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""

    @property
    def at_tip(self) -> bool:
        """Whether the segment extends to the tip, so that there is no breakpoint."""
        return self.share in {0.0, 1.0}


def places_of(logit_2G: Floats, temperature: float) -> tuple[Place, Place]:
    """Start and stop of a segment from the logits of their places.

    The joint distribution is restricted to starts that do not lie behind the stop. A tip is chosen
    if its probability exceeds 0.5; otherwise median and interval are computed over the places
    between the tips.

    Args:
        logit_2G: logits of :attr:`homnet.reader.network.Reading.segment_B2G` of one bag.
        temperature: divisor of the logits.
    """
    p_2G = _softmax(logit_2G, temperature)
    joint_GG = np.triu(p_2G[0][:, None] * p_2G[1][None])
    total = joint_GG.sum()
    if total > 0:
        p_2G = np.stack([joint_GG.sum(axis=1), joint_GG.sum(axis=0)]) / total
    start, stop = (_place(p_G) for p_G in p_2G)
    if start.share > stop.share:  # medians of each may cross where the joint has several peaks
        middle = (start.share + stop.share) / 2
        start = Place(middle, min(start.low, middle), max(start.high, middle))
        stop = Place(middle, min(stop.low, middle), max(stop.high, middle))
    return start, stop


def _place(p_G: Floats) -> Place:
    num_positions = len(p_G) - 2
    for share, tip in ((0.0, p_G[0]), (1.0, p_G[-1])):
        if tip > 0.5:
            return Place(share, share, share)
    inner_L = p_G[1:-1]
    # Position i covers the shares from i / L to (i + 1) / L, evenly.
    cumulative = np.concatenate([[0.0], np.cumsum(inner_L)]) / max(float(inner_L.sum()), 1e-12)
    edges = np.arange(num_positions + 1) / num_positions
    wanted = (0.5, (1 - INTERVAL) / 2, (1 + INTERVAL) / 2)
    middle, low, high = (float(np.interp(q, cumulative, edges)) for q in wanted)
    least = 0.5 / num_positions
    return Place(min(max(middle, least), 1 - least), low, high)


class CalibratedReader:
    """A reader and its calibration, as a :class:`homnet.patients.finding.FindingReader`."""

    def __init__(
        self,
        reader: Reader,
        calibration: Mapping[str, float],
        *,
        version: str,
        device: torch.device | str = "cpu",
    ) -> None:
        """Takes a reader.

        Args:
            reader: the network.
            calibration: temperatures from :func:`homnet.reader.loss.calibrate`.
            version: version of its checkpoint.
            device: device for computation.
        """
        self.reader = reader.to(device).eval()
        self.calibration = calibration
        self.device = torch.device(device)
        self.version = version
        """Digest of form and weights."""

    @classmethod
    def load(cls, path: str | Location, device: torch.device | str = "cpu") -> Self:
        """Loads the checkpoint of a reader.

        Raises:
            CheckpointError: see :meth:`homnet.model.checkpoint.Checkpoint.load`.
        """
        return cls.of_checkpoint(Checkpoint.load(path, ReaderConfig.of_json), device)

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint, device: torch.device | str = "cpu") -> Self:
        """Builds the reader of a checkpoint.

        Raises:
            CheckpointError: the weights do not fit the config.
        """
        return cls(
            cast(Reader, checkpoint.build()),
            checkpoint.metrics["calibration"],
            version=checkpoint.version,
            device=device,
        )

    def __call__(self, assessment: Assessment) -> list[Finding]:
        """Reads types of patients.

        Args:
            assessment: all pairs of some patients, type by type.

        Returns:
            One finding for each of ``assessment.types``, in their order; how probable it is that
            the type is abnormal, HomNet says.
        """
        type_N = assessment.type_N
        rows = [np.nonzero(type_N == g)[0] for g in range(len(assessment.types))]
        findings: list[Finding] = []
        for group in _groups([len(row) for row in rows]):
            part = [rows[g] for g in group]
            reading = self._read(assessment, part)
            for i, g in enumerate(group):
                findings.append(self._finding(assessment.types[g], assessment, part[i], reading, i))
        return findings

    @torch.inference_mode()
    def _read(self, assessment: Assessment, rows: Sequence[NDArray[np.int64]]) -> Reading:
        """Reads one bag per type, made of all its cells; the outputs are on the host."""
        num_cells = max(map(len, rows))
        row_BK = np.zeros((len(rows), num_cells), np.int64)
        mask_BK = np.zeros((len(rows), num_cells), np.bool_)
        for b, row in enumerate(rows):
            row_BK[b, : len(row)], row_BK[b, len(row) :] = row, row[0]
            mask_BK[b, : len(row)] = True
        bags, device = assessment.bags, self.device
        reading = self.reader.read(
            torch.as_tensor(bags.pair_NPCL[row_BK]).to(device),
            torch.as_tensor(mask_BK).to(device),
            torch.as_tensor(bags.chromosome_N[row_BK[:, 0]]).to(device),
            torch.as_tensor(bags.level_N[row_BK]).to(device),
        )
        # Not type by type: each copy waits for the device.
        return Reading(**{name: value.cpu() for name, value in vars(reading).items()})

    def _finding(
        self,
        who: PatientType,
        assessment: Assessment,
        row_N: NDArray[np.int64],
        reading: Reading,
        bag: int,
    ) -> Finding:
        num_cells = len(row_N)
        kind_X = _softmax(_array(reading.kind_BX[bag]), self.calibration["kind"])
        cell_NX = _softmax(_array(reading.cell_BKX[bag, :num_cells]), self.calibration["cell"])
        extent_NPL = expit(_array(reading.extent_BKPL[bag, :num_cells]))
        bags = assessment.bags
        level_N = bags.level_N[row_N]
        cells = []
        for n, row in enumerate(row_N.tolist()):
            pair_PL = bags.pair_NPCL[row].any(axis=1)
            length_P = SEQUENCE_LENGTH - pair_PL[:, ::-1].argmax(axis=1)
            abnormal = min(float(cell_NX[n, 1:].sum()), 1.0)
            homolog = int(cell_NX[n, 1:].argmax())
            cells.append(
                CellFinding(
                    cell_id=assessment.cell_N[row],
                    band_level=BAND_LEVELS[int(level_N[n])],
                    probability=abnormal,
                    homolog=homolog,
                    homolog_probability=min(
                        float(cell_NX[n, 1 + homolog]) / max(abnormal, 1e-12), 1.0
                    ),
                    score_PL=unstretched(extent_NPL[n], length_P),
                )
            )
        start, stop = places_of(_array(reading.segment_B2G[bag]), self.calibration["segment"])
        level = _common_level(level_N, cell_NX[:, 1:].sum(axis=1))
        return Finding(
            hospital=who.hospital,
            patient_id=who.patient_id,
            chromosome=who.chromosome,
            probability=None,
            cells=tuple(cells),
            kinds={kind: float(p) for kind, p in zip(SHOWN, kind_X, strict=True)},
            start=_estimate(who.chromosome, start, level),
            stop=_estimate(who.chromosome, stop, level),
            reader=self.version,
        )


def _estimate(chromosome: str, place: Place, level: int) -> BreakpointEstimate | None:
    """A breakpoint at a band level; None at a tip."""
    if place.at_tip:
        return None
    # Shares refer to the finest table, as in training; the level only affects the band's name.
    mb, low, high = (
        mb_of_share(chromosome, share) for share in (place.share, place.low, place.high)
    )
    return BreakpointEstimate.at(chromosome, mb, min(low, mb), max(high, mb), level)


def _common_level(level_N: NDArray[np.int64], weight_N: Floats) -> int:
    """Median band level of the cells, weighted by their probability of being abnormal."""
    order = np.argsort(level_N, kind="stable")
    cumulative = np.cumsum(weight_N[order])
    at = int(np.searchsorted(cumulative, cumulative[-1] / 2))
    return BAND_LEVELS[int(level_N[order[min(at, len(order) - 1)]])]


def _groups(sizes: Sequence[int]) -> list[list[int]]:
    """Groups consecutive types that are read in one pass."""
    groups: list[list[int]] = []
    widest = 0
    for g, size in enumerate(sizes):
        wider = max(widest, size)
        if not groups or wider * (len(groups[-1]) + 1) > _BATCH_CELLS:
            groups.append([])
            wider = size
        groups[-1].append(g)
        widest = wider
    return groups


def _softmax(logit_NX: Floats, temperature: float) -> Floats:
    return np.asarray(softmax(logit_NX / temperature, axis=-1))


def _array(tensor: torch.Tensor) -> Any:
    return tensor.double().numpy()
