"""Turns artificial abnormalities into patients, to measure a reader where no truth is known.

Shape suffixes: B bags, K cells, N pairs.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from homnet.bags.assessment import Assessment, FlatBags, PatientType
from homnet.bags.draw import PairBank
from homnet.bags.epochs import DeviceBank, Epoch
from homnet.karyotype.kinds import NO_ABNORMALITY, SHOWN
from homnet.reader.places import mb_of_share
from homnet.reader.truth import SEGMENT_COLUMNS, UNKNOWN, Targets


@dataclass(frozen=True)
class ArtificialPatients:
    """The bags of an epoch, each as one chromosome type of a separate patient."""

    assessment: Assessment
    """Pairs of the patients after the events; one bag per type."""
    truth: pd.DataFrame
    """One row per pair, as required by :func:`homnet.reader.measures.cases_of`."""
    people: dict[PatientType, list[str]]
    """People whose pairs are in each bag."""

    @classmethod
    def of(cls, bank: PairBank, epoch: Epoch) -> "ArtificialPatients":
        """Turns the bags of an epoch into patients; drops bags with a mixed-up pair.

        Args:
            bank: normal pairs.
            epoch: bags of these pairs with artificial events.
        """
        targets = Targets.of(epoch, bank)
        kept_B = np.nonzero(targets.kind_B != UNKNOWN)[0]
        mask_BK = epoch.bags.mask_BK[kept_B]
        batch = DeviceBank(bank, "cpu").load(epoch.take(kept_B)).batch(slice(None))
        described = epoch.describe(bank).iloc[kept_B].reset_index(drop=True)
        types = tuple(
            PatientType(str(hospital), f"bag-{b:06d}", str(chromosome))
            for b, hospital, chromosome in zip(
                kept_B.tolist(), described["hospital"], described["chromosome"], strict=True
            )
        )
        size_B = mask_BK.sum(axis=1)
        bag_N, cell_N = np.nonzero(mask_BK)
        cells = tuple(f"cell-{k + 1}" for k in cell_N.tolist())
        assessment = Assessment(
            bags=FlatBags(
                pair_NPCL=batch.x_BKPCL.numpy()[mask_BK],
                chromosome_N=np.repeat(batch.chromosome_B.numpy(), size_B),
                level_N=batch.level_BK.numpy()[mask_BK],
                size_B=size_B,
            ),
            type_B=np.arange(len(kept_B)),
            types=types,
            cell_N=cells,
            row_N=np.arange(len(cells)),
            left_out={},
            levels={},
        )
        truth = _truth(targets.take(kept_B), types, bag_N, cell_N)
        truth["cell_id"] = cells
        truth["size_mb"] = described["size_mb"].to_numpy()[bag_N]
        return cls(assessment, truth, dict(zip(types, described["patients"], strict=True)))


def _truth(
    targets: Targets,
    types: tuple[PatientType, ...],
    bag_N: NDArray[np.int64],
    cell_N: NDArray[np.int64],
) -> pd.DataFrame:
    """The event of each pair; segments in megabases of the reference chromosome."""
    shown_B = np.array(SHOWN, object)[targets.kind_B]
    shown_B[shown_B == NO_ABNORMALITY] = None
    mb_B2 = np.full(targets.segment_B2.shape, np.nan)
    for b in np.nonzero(np.isfinite(targets.segment_B2).all(axis=1))[0].tolist():
        mb_B2[b] = [mb_of_share(types[b].chromosome, s) for s in targets.segment_B2[b].tolist()]
    abnormal_N = targets.abnormal_BK[bag_N, cell_N]
    homolog_N = targets.homolog_BK[bag_N, cell_N].astype(float)
    truth = pd.DataFrame([types[b] for b in bag_N.tolist()], columns=list(PatientType._fields))
    truth["abnormal"] = abnormal_N
    shown_N = shown_B[bag_N]
    shown_N[~abnormal_N] = None
    truth["kind"] = truth[SEGMENT_COLUMNS[0]] = shown_N
    truth["homolog"] = np.where(abnormal_N & (homolog_N >= 0), homolog_N, np.nan)
    for name, mb_B in zip(SEGMENT_COLUMNS[1:], mb_B2.T, strict=True):
        truth[name] = np.where(abnormal_N, mb_B[bag_N], np.nan)
    return truth
