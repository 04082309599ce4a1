"""The pictures on which verdicts are given: where they lie, and what became of each."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import pandas as pd

from homnet.imaging.extraction import MAX_SIDE_PX
from homnet.imaging.manifest import find_image, read_manifest
from homnet.imaging.pairing import files_of_pairs
from homnet.imaging.reading import read_grey
from homnet.locations import Location, in_memory
from homnet.patients.pictures import SentPicture, image_name, left_out
from homnet.report.patient_page import Images
from homnet_platform.karyograms import FOUND


@dataclass(frozen=True)
class Pictures:
    """The pictures of all patients of a run."""

    files: Mapping[tuple[str, str, str, str], list[Location]]
    """Images of each pair, by hospital, patient, cell and chromosome."""
    sent: Mapping[tuple[str, str], list[SentPicture]]
    """What became of each picture with something to say of it, by hospital and patient; every
    patient is there."""

    def images(self, hospital: str, patient_id: str) -> Images:
        """The images of a patient's pairs."""
        return {
            (cell, chromosome): [read_grey(path, max_side_px=MAX_SIDE_PX) for path in paths]
            for (where, who, cell, chromosome), paths in self.files.items()
            if (where, who) == (hospital, patient_id)
        }


@cache
def pictures_of(
    manifest: Location, hospital: str, band_level: int | None, report: Location, *, cut: bool
) -> Pictures:
    """The pictures of a manifest, read once per process.

    Args:
        manifest: its path.
        hospital: hospital of rows without one.
        band_level: band level of cells without one.
        report: what ingest says of its images; it may be missing.
        cut: whether the images were cut out of karyograms.

    Raises:
        ManifestError: the manifest is invalid.
    """
    rows = read_manifest(manifest, hospital=hospital, band_level=band_level)
    noted = pd.DataFrame(columns=[*rows.columns, "reason", "note"])
    if report.exists():
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
        sent[str(one["hospital"]), str(one["patient_id"])].append(
            SentPicture(
                image_name(one["row"], one["chromosome"]),
                one["cell_id"],
                one["reason"],
                () if one["reason"] else (one["note"],),
            )
        )
    return sent


def _karyograms(
    manifest: Location, noted: pd.DataFrame, hospital: str
) -> dict[tuple[str, str], list[SentPicture]]:
    """Karyograms, with what was left out while they were read or while they were measured."""
    found = pd.read_csv(in_memory(manifest.with_name(FOUND)), dtype=str, keep_default_na=False)
    called = {
        path: f"{page}, number {number}"
        for path, page, number in zip(found["path"], found["page"], found["number"], strict=True)
        if path
    }
    measured = {one["path"]: one for one in _records(noted)}
    sent: dict[tuple[str, str], list[SentPicture]] = {}
    for page, own in found.groupby("page", sort=False):
        first = own.iloc[0]
        patient = first["hospital"] or hospital, first["patient_id"]
        if first["number"]:
            remarks = [_remark(one, measured.get(one["path"], {}), called) for one in _records(own)]
            picture = SentPicture(
                str(page), first["cell_id"], remarks=tuple(one for one in remarks if one)
            )
        else:
            picture = SentPicture(str(page), first["cell_id"], first["reason"])
        sent.setdefault(patient, []).append(picture)
    return sent


def _remark(
    found: Mapping[str, Any], measured: Mapping[str, Any], called: Mapping[str, str]
) -> str:
    """What there is to say of a chromosome of a karyogram; empty for nothing."""
    reason = found["reason"] or measured.get("reason")
    if reason:
        return left_out(int(found["number"]), found["chromosome"], reason)
    note = measured.get("note")
    if not note:
        return ""
    said = re.sub(r"pages/\d+/\w+\.png", lambda path: called.get(path[0], path[0]), note)
    return f"number {found['number']}: {said}"


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return cast(list[dict[str, Any]], frame.to_dict("records"))
