"""A page of extractions shows what was read, and what was not."""

from pathlib import Path

import numpy as np
from PIL import Image

from homnet.imaging.contact_sheet import sheet_of_manifest
from homnet.imaging.extraction import ExtractionConfig
from homnet.imaging.manifest import read_manifest
from homnet.simulator.drawing import centre_line, draw_chromosome

CONFIG = ExtractionConfig()


def drawn(length_px: int) -> np.ndarray:
    num = 3 * length_px
    profile_CL = 120 + 50 * np.sin(np.arange(2 * num).reshape(2, num) / 11)
    line = centre_line(np.linspace(-1, 1, num), 1 / 3)
    rng = np.random.default_rng(length_px)
    return draw_chromosome(profile_CL, line, 6.0, samples_per_px=3.0, generator=rng).image_HW


def test_the_images_of_a_manifest_are_drawn_and_unreadable_ones_named(tmp_path: Path) -> None:
    Image.fromarray(drawn(60)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(
        "path,patient_id,cell_id,chromosome,homolog\ngood.png,p,c,7,0\nbad.png,p,c,7,1\n"
        "none.png,p,c,X,0\n\xe9.png,p,c,8,0\n"
    )
    Image.fromarray(drawn(60)).save(tmp_path / "e\u0301.png")  # the same name, in another form
    rows = read_manifest(manifest, hospital="h", band_level=550)
    figure = sheet_of_manifest(rows, tmp_path, CONFIG)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert [title.splitlines()[0] for title in titles] == [
        *("row 2: 7", "row 3: 7", "row 5: 8", "row 4: X")
    ]
    assert "damaged" in titles[1]
    assert "missing" not in titles[2]
    assert "missing" in titles[3]
    assert len(figure.axes[0].lines) == 2  # the axis, and the tip of the short arm
    assert len(figure.axes[1].lines) == 2  # a sequence of each chromatid
    figure.savefig(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert np.ptp(np.asarray(sheet.convert("L"))) > 100
