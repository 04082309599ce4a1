"""The pictures on which verdicts are given: where they lie, and what became of each."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import pandas as pd

from homnet.errors import DataError
from homnet.imaging.karyogram import MAX_SIDE_PX
from homnet.imaging.manifest import find_image, read_manifest
from homnet.imaging.pairing import files_of_pairs
from homnet.imaging.reading import read_grey
from homnet.locations import Location, in_memory
from homnet.patients.pictures import (
    NOTHING_USED,
    SentPicture,
    left_out,
    sent_image,
    without_names,
)
from homnet.report.patient_page import Images
from homnet_platform.karyograms import FOUND


@dataclass(frozen=True)
class Pictures:
    """The pictures of all patients of a run."""

    files: Mapping[tuple[str, str, str, str], list[Location]]
    """Images of each pair, by hospital, patient, cell and chromosome."""
    sent: Mapping[tuple[str, str], list[SentPicture]]
    """What became of the pictures, by hospital and patient: every karyogram, and the images of
    which there is something to say. Patients of whom nothing could be used are there, too."""

    def images(self, hospital: str, patient_id: str) -> Images:
        """The images of a patient's pairs; ingest has bounded their size."""
        return {
            (cell, chromosome): [read_grey(path, max_side_px=MAX_SIDE_PX) for path in paths]
            for (where, who, cell, chromosome), paths in self.files.items()
            if (where, who) == (hospital, patient_id)
        }


def pictures_of(
    manifest: Location, hospital: str, band_level: int | None, report: Location, *, cut: bool
) -> Pictures:
    """The pictures of a manifest, read once per process and content.

    Args:
        manifest: its path.
        hospital: hospital of rows without one.
        band_level: band level of cells without one.
        report: what ingest says of its images.
        cut: whether the images were cut out of karyograms.

    Raises:
        ManifestError: the manifest is invalid.
        DataError: the report is missing.
    """
    if not report.exists():
        raise DataError(
            f"{report}: there is no such file, so nobody knows which images were used; remove the "
            "cohort beside it and repeat the command, which measures the images again"
        )
    content = hashlib.sha256()
    for read in (manifest, report, *([manifest.with_name(FOUND)] if cut else [])):
        content.update(read.read_bytes())
    return _pictures_of(content.hexdigest(), manifest, hospital, band_level, report, cut=cut)


@cache
def _pictures_of(
    _: str,
    manifest: Location,
    hospital: str,
    band_level: int | None,
    report: Location,
    *,
    cut: bool,
) -> Pictures:
    """See :func:`pictures_of`; the first argument is a digest of what is read."""
    rows = read_manifest(manifest, hospital=hospital, band_level=band_level)
    noted = pd.read_csv(in_memory(report), keep_default_na=False, dtype=str)
    noted["row"] = noted["row"].astype(int)
    files = files_of_pairs(rows[~rows["row"].isin(noted.loc[noted["reason"] != "", "row"])])
    return Pictures(
        {
            key: [find_image(manifest.parent, path) for path in paths]
            for key, paths in files.items()
        },
        _karyograms(manifest, noted, hospital) if cut else _images(rows, noted),
    )


def _images(rows: pd.DataFrame, noted: pd.DataFrame) -> dict[tuple[str, str], list[SentPicture]]:
    """Images of single chromosomes."""
    sent: dict[tuple[str, str], list[SentPicture]] = {
        (str(hospital), str(patient)): []
        for hospital, patient in zip(rows["hospital"], rows["patient_id"], strict=True)
    }
    for one in _records(noted[(noted["reason"] != "") | (noted["note"] != "")]):
        what = (one[name] for name in ("row", "chromosome", "cell_id", "reason", "note"))
        sent[one["hospital"], one["patient_id"]].append(sent_image(*what))
    return sent


def _karyograms(
    manifest: Location, noted: pd.DataFrame, hospital: str
) -> dict[tuple[str, str], list[SentPicture]]:
    """Karyograms, with what was left out while they were read or while they were measured."""
    found = pd.read_csv(in_memory(manifest.with_name(FOUND)), dtype=str, keep_default_na=False)
    measured = {one["path"]: (one["reason"], one["note"]) for one in _records(noted)}
    sent: dict[tuple[str, str], list[SentPicture]] = {}
    for page, own in found.groupby("page", sort=False):
        first = own.iloc[0]
        patient = first["hospital"] or hospital, first["patient_id"].strip()
        refused, remarks = first["reason"], []
        if first["number"]:
            refused = NOTHING_USED
            for one in _records(own):
                # Left out while the page was read, or while the chromosome was measured.
                later, note = measured.get(one["path"], ("", ""))
                if reason := one["reason"] or later:
                    remarks.append(left_out(int(one["number"]), one["chromosome"], reason))
                    continue
                refused = ""
                if note:
                    remarks.append(f"number {one['number']}: {without_names(note)}")
        sent.setdefault(patient, []).append(
            SentPicture(str(page), first["cell_id"].strip(), refused, tuple(remarks))
        )
    return sent


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return cast(list[dict[str, Any]], frame.to_dict("records"))
