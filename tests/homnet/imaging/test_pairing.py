"""Images become pairs, and every image that gives nothing has a reason."""

import errno
import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from homnet.cohorts.pairs import SCHEMA, pairs_of
from homnet.errors import StoreError
from homnet.imaging.extraction import ExtractionConfig, extract
from homnet.imaging.pairing import (
    files_of_pairs,
    leave_out_wide,
    measure_image,
    measure_rows,
    note_same_pixels,
    pair_up,
    set_band_levels,
    set_upright,
)
from homnet.karyotype.bands import band_table
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.simulator.drawing import centre_line, draw_chromosome

CONFIG = ExtractionConfig()


def drawn(length_px: int = 40, seed: int = 0, half_width_px: float = 6.0) -> np.ndarray:
    num = 3 * length_px
    profile_CL = 120 + 50 * np.sin(np.arange(2 * num).reshape(2, num) / 11 + seed)
    line = centre_line(np.zeros(num), 1 / 3)
    rng = np.random.default_rng(seed)
    return draw_chromosome(
        profile_CL, line, half_width_px, samples_per_px=3.0, generator=rng
    ).image_HW


def png(image_HW: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(image_HW).save(file, "PNG")
    return file


def images(*rows: tuple[str, int], **columns: list[object]) -> pd.DataFrame:
    """Measured images of chromosome types and homologs in one cell; a negative one is empty."""
    frame = pd.DataFrame(rows, columns=["chromosome", "homolog"]).assign(
        row=range(2, len(rows) + 2),
        hospital="h",
        patient_id="p",
        cell_id="c",
        band_level=550,
        abnormal=False,
        kind="",
    )
    frame = frame.assign(**columns)
    return measure_rows(
        frame,
        lambda row: png(
            np.full((60, 30), 255, np.uint8) if row["homolog"] < 0 else drawn(seed=row["homolog"])
        ),
        CONFIG,
    )


def test_what_a_reader_should_know_of_an_image_is_noted() -> None:
    row = {"chromosome": "1", "hospital": "h", "patient_id": "p", "cell_id": "c", "homolog": 0}
    large, small = drawn(), drawn(20, seed=1)
    two = np.full((len(large), large.shape[1] + small.shape[1]), 255, np.uint8)
    two[:, : large.shape[1]] = large
    two[: len(small), large.shape[1] :] = small
    pictures = [large, two, np.full((60, 30), 255, np.uint8)]
    frame = pd.DataFrame([row | {"band_level": 550, "picture": n} for n in range(3)])
    found = measure_rows(frame, lambda one: pictures[one["picture"]], CONFIG)
    said = "a second dark part of the picture was left out"
    assert found["note"].tolist() == ["", said, ""], "and nothing of one that is not used"
    again = note_same_pixels(found, pd.Series(["a", "b", "c"]), {})
    assert again["note"].tolist() == found["note"].tolist()
    seen = {hashlib.blake2b(found["sequence"][1], digest_size=16).digest(): "x"}
    again = note_same_pixels(found, pd.Series(["a", "b", "c"]), seen)
    assert again["note"].tolist() == ["", f"{said}; b has the same pixels as x", ""]


def test_an_image_as_wide_as_two_chromosomes_is_left_out() -> None:
    """In a cell of ten, not in one of nine, whose width is not known well enough."""
    two = drawn(half_width_px=11.0)
    frame = pd.DataFrame(
        [
            {"chromosome": name, "hospital": "h", "patient_id": "p", "cell_id": cell, "homolog": 0}
            | {"band_level": 550, "row": n}
            for cell, count in (("a", 10), ("b", 9))
            for n, name in enumerate(CHROMOSOMES[:count])
        ]
    )
    found = measure_rows(frame, lambda one: two if one["row"] == 4 else drawn(), CONFIG)
    found = found.assign(note=np.where(found["row"] == 4, "looks odd", ""))
    left = leave_out_wide(found.set_axis(np.zeros(len(found), int)))
    assert left.index[left["reason"] != ""].tolist() == [4]
    assert re.match(
        r"too wide: 2\d pixels, where half of its cell have at most 1\d;", left["reason"][4]
    )
    assert (left["sequence"][4], left["note"][4]) == (b"", "")
    assert (left.drop(index=4)["sequence"] != b"").all()
    nothing = measure_rows(frame[:1], lambda _: np.full((60, 30), 255, np.uint8), CONFIG)
    pd.testing.assert_frame_equal(leave_out_wide(nothing), nothing)


def test_the_same_pixels_under_two_names_are_noted() -> None:
    frame = images(("1", 0), ("1", 1), ("2", -1), ("2", -1)).assign(path=["a", "b", "e", "f"])
    seen: dict[bytes, str] = {}
    assert (note_same_pixels(frame, frame["path"], seen)["note"] == "").all()
    again = note_same_pixels(frame, pd.Series(["c", "d", "g", "h"]), seen)
    assert again["note"].tolist() == [
        "c has the same pixels as a",
        "d has the same pixels as b",
        "",  # nothing was measured
        "",
    ]
    assert again["flags"].tolist() == ["same_pixels", "same_pixels", "", ""]
    assert pair_up(again)["quality"][0].as_py()["flags"] == ["same_pixels"]


def test_the_files_of_a_pair_are_in_the_order_of_its_homologs() -> None:
    frame = images(("1", 0), ("1", 1), ("1", 2), ("2", -1), ("2", 1)).assign(path=list("abcde"))
    key = ("h", "p", "c")
    assert files_of_pairs(frame) == {(*key, "1"): ("a", "b"), (*key, "2"): ("e",)}


def test_an_image_is_measured_or_says_why_not(tmp_path: Path) -> None:
    image = drawn()
    for same in (png(image), image):
        found = measure_image(same, 0, CONFIG)
        np.testing.assert_array_equal(found.sequence_CL, extract(image, CONFIG).sequence_CL)
    for source, homolog, reason in (
        (tmp_path / "none.png", 0, "missing"),
        (io.BytesIO(b"no image"), 1, "damaged"),
        (png(np.full((1025, 30), 255, np.uint8)), 0, "larger than 1024"),
        (png(image), 2, "a further copy"),
    ):
        found = measure_image(source, homolog, CONFIG)
        assert found.sequence_CL is None
        assert reason in str(found.reason)


def test_an_image_that_the_disk_does_not_give_ends_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, mode: str) -> NoReturn:
        raise OSError(errno.ESTALE, "Stale file handle", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StoreError, match=r"a\.png: cannot be read \(Stale file handle\)"):
        measure_image(tmp_path / "a.png", 0, CONFIG)


def test_homologs_share_a_pair_and_a_further_copy_is_left_out() -> None:
    measured = images(("1", 0), ("1", 1), ("1", 2), ("7", 0))
    table = pair_up(measured)
    assert table.schema == SCHEMA
    assert table["chromosome"].to_pylist() == ["1", "7"]
    pairs = pairs_of(table)
    for homolog in (0, 1):
        expected = extract(drawn(seed=homolog), CONFIG).sequence_CL
        np.testing.assert_array_equal(pairs[0, homolog], expected)
    assert not pairs[1, 1].any()
    flags = [quality["flags"] for quality in table["quality"].to_pylist()]
    assert flags == [["third_copy"], ["single_homolog"]]


@pytest.mark.parametrize(("first", "shown_in", "homolog"), [(0, 0, 0), (0, 1, 1), (-1, 1, 0)])
def test_an_abnormality_is_told_of_the_place_where_its_image_is(
    first: int, shown_in: int, homolog: int
) -> None:
    abnormal = [number == shown_in for number in (0, 1)]
    kind = ["deletion" if one else "" for one in abnormal]
    (row,) = pair_up(images(("5", first), ("5", 1), abnormal=abnormal, kind=kind)).to_pylist()
    assert (row["abnormal"], row["kind"], row["homolog"]) == (True, "deletion", homolog)


def test_an_abnormal_chromosome_stays_abnormal_when_its_image_is_unusable() -> None:
    measured = images(("5", -1), ("5", 1), abnormal=[True, False], kind=["ring", ""])
    (row,) = pair_up(measured).to_pylist()
    assert (row["abnormal"], row["kind"], row["homolog"]) == (True, "ring", None)


def test_no_usable_image_gives_no_pair() -> None:
    assert pair_up(set_upright(images(("1", -1)), on_karyogram=False)).equals(SCHEMA.empty_table())


def test_unknown_band_levels_are_estimated_and_impossible_ones_noted() -> None:
    """Three cells with the bands of one level, and a poor one; what is said of them differs."""
    frame = pd.DataFrame(
        [
            {
                **{"row": row, "hospital": "h", "patient_id": "p", "cell_id": cell},
                **{"chromosome": name, "homolog": 0, "band_level": stated},
                **{"abnormal": False, "kind": "", "shown": shown},
            }
            for cell, stated, shown in (
                ("a", 0, 700),
                ("b", 300, 700),
                ("c", 550, 700),
                ("d", 700, 300),
            )
            for row, name in enumerate(CHROMOSOMES)
        ]
    )

    def open_image(row: Mapping[str, object]) -> io.BytesIO:
        bands = band_table(int(str(row["shown"])))[str(row["chromosome"])]
        num = round(bands.length_iscn * 0.0236)
        place_L = (np.arange(num) + 0.5) / num * bands.length_iscn
        profile_CL = np.array([[60 + 120 * bands.at(place).darkness for place in place_L]] * 2)
        line, rng = centre_line(np.zeros(num), 1 / 3), np.random.default_rng(0)
        return png(
            draw_chromosome(profile_CL, line, 6.0, samples_per_px=3.0, generator=rng).image_HW
        )

    measured = measure_rows(frame, open_image, CONFIG)
    # Labels that occur twice, as in rows that were put together, name nothing.
    found = set_band_levels(measured.set_axis(np.zeros(len(measured), int)))
    levels = found[found["reason"] == ""].groupby("cell_id")["band_level"].unique()
    assert levels.map(list).to_dict() == {"a": [700], "b": [300], "c": [550], "d": [400]}
    notes = found["note"][found["note"] != ""]
    assert notes.tolist() == [
        "its cell is stated to have 300 bands and looks like 700",
        "its cell is stated to have 700 bands and looks like 400, which counts",
    ]
    flags = pd.DataFrame(pair_up(found).to_pylist()).set_index("cell_id")["quality"]
    said = {cell: {flag for one in flags[cell] for flag in one["flags"]} for cell in "abcd"}
    assert said["a"] - said["c"] == {"band_level_estimated"}
    assert said["b"] - said["c"] == {"band_level_doubted"}
    assert "band_level_doubted" in said["d"]
    # Seven pairs of a cell say too little.
    few = set_band_levels(measured[measured["cell_id"] == "d"].iloc[:15])
    assert set(few["band_level"]) == {700}
    assert few["note"][0] == "its cell is stated to have 700 bands and looks like 400"


def test_a_cell_without_a_usable_image_has_no_level_to_set() -> None:
    measured = images(("1", -1), band_level=[0])
    pd.testing.assert_frame_equal(set_band_levels(measured), measured)


@pytest.mark.parametrize("on_karyogram", [False, True])
@pytest.mark.parametrize("turned", [(0, 1), (3, 0)])
def test_an_image_upside_down_is_turned_and_flagged(
    turned: tuple[int, int], on_karyogram: bool
) -> None:
    """One chromosome 9 of four cells, beside those of another patient."""
    bands = band_table(550)["9"]
    place_L = (np.arange(240) + 0.5) / 240 * bands.length_iscn
    profile_CL = np.array([[60 + 120 * bands.at(place).darkness for place in place_L]] * 2)
    line, rng = centre_line(np.zeros(240), 1 / 3), np.random.default_rng(0)
    chromosome_HW = draw_chromosome(
        profile_CL, line, 6.0, samples_per_px=3.0, generator=rng
    ).image_HW
    frame = pd.DataFrame(
        [
            {
                **{"row": 0, "hospital": "h", "patient_id": patient, "cell_id": f"c{cell}"},
                **{"chromosome": "9", "homolog": homolog, "band_level": 550},
                **{"abnormal": False, "kind": ""},
            }
            for patient in ("p", "q")
            for cell in range(4)
            for homolog in (0, 1)
        ]
    )

    def wrong(row: Mapping[str, object]) -> bool:
        return row["patient_id"] == "q" and (row["cell_id"], row["homolog"]) == (
            f"c{turned[0]}",
            turned[1],
        )

    measured = measure_rows(
        frame,
        lambda row: png(chromosome_HW[::-1, ::-1] if wrong(row) else chromosome_HW),
        CONFIG,
    )
    pairs = pair_up(set_upright(measured, on_karyogram=on_karyogram))
    flags = [one["flags"] for one in pairs["quality"].to_pylist()]
    assert [number for number, found in enumerate(flags) if found == ["turned"]] == [4 + turned[0]]
    assert sum(map(len, flags)) == 1
    pair_NPCL = pairs_of(pairs).astype(float)
    upright_L, other_L = pair_NPCL[0, 0, 0], pair_NPCL[4 + turned[0], turned[1], 0]
    assert np.abs(upright_L - other_L).mean() < 3
