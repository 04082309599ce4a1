"""Each treatment gives an image, and the one whose profile is right; the table counts them."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from homnet.records.treated_images import (
    TREATMENTS,
    TreatedImagesConfig,
    measure_treatments,
    treated_images_markdown,
)
from homnet.simulator.drawing import centre_line, draw_chromosome


def test_treatments_of_drawn_images_are_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(2):
        line = centre_line(np.zeros(150), 1 / 3)
        profile_CL = np.clip(rng.normal(120, 40, (1, 15)).repeat(10, axis=1), 60, 220).repeat(2, 0)
        drawn = draw_chromosome(profile_CL, line, 6.0, samples_per_px=3.0, generator=rng).image_HW
        Image.fromarray(drawn).save(tmp_path / f"{number}.png")
    pd.DataFrame({"path": ["0.png", "1.png"]}).to_csv(tmp_path / "manifest.csv", index=False)
    figures = measure_treatments(TreatedImagesConfig(tmp_path / "manifest.csv", num_images=1))
    rows = {row["name"]: row for row in figures["rows"]}
    assert list(rows) == ["untouched", *TREATMENTS]
    assert rows["untouched"] == {"name": "untouched", "images": 2, "accepted": 2, "wrong": 0}
    assert {row["images"] for name, row in rows.items() if name != "untouched"} == {1}
    assert rows["light on dark"]["accepted"] == rows["black frame"]["accepted"] == 0
    for name in ("turned, with EXIF orientation", "transparent ground, black below", "noise"):
        assert (rows[name]["accepted"], rows[name]["wrong"]) == (1, 0)
    assert "| untouched | 2 | 0 | 2 | 0 |" in treated_images_markdown(figures)
