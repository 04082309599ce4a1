"""Draws chromosome images of a simulated cohort, with a manifest."""

import io
from dataclasses import replace
from functools import cache, partial

import pandas as pd
from PIL import Image

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.pairs import pairs_of
from homnet.errors import DataError
from homnet.files import Staging
from homnet.imaging.manifest import OPTIONAL, REQUIRED
from homnet.locations import Location, files_in
from homnet.seeding import generator
from homnet.simulator.images import cell_look, draw_pair, image_rows
from homnet_platform.blocks import process_blocks


def draw_images(cohort: Cohort, output: Location, *, seed: int) -> Location:
    """Draws an 8-bit grey PNG of every chromosome and writes a manifest for ingest.

    The directory is published as a whole. An interrupted run resumes at the image it was drawing.
    On a cluster all nodes must share its storage.

    Args:
        cohort: with simulated sequences.
        output: directory to create.
        seed: of widths, gaps, bends and noise.

    Returns:
        The manifest, ``manifest.csv`` in the directory.

    Raises:
        CohortError: a file of the cohort is damaged.
        DataError: the directory exists, has unfinished work of other settings, or is not writable.
    """
    staging = Staging(output.absolute())
    claimed = {"job": "images", "cohort": cohort.fingerprint, "seed": seed}
    staging.claim(claimed)
    absolute = replace(cohort, root=cohort.root.absolute())
    parts = process_blocks(
        len(cohort.files),
        partial(_draw_block, cohort=absolute, staging=staging, seed=seed),
        title="draw",
        total=2 * cohort.num_pairs,
        unit="image",
    )
    manifest = pd.concat(
        [pd.read_csv(io.StringIO(part), dtype=str, keep_default_na=False) for part in parts]
    )
    there = set(files_in(staging.content, recursive=True))
    unseen = next((path for path in manifest["path"] if path not in there), "")
    if unseen:
        raise DataError(
            f"{staging.content / unseen}: a worker wrote this image, but it is not visible here; "
            "choose a directory on storage that all nodes share"
        )
    with staging.writing("manifest.csv") as temporary:
        manifest.to_csv(temporary, index=False)
    staging.publish()
    return output / "manifest.csv"


def _draw_block(number: int, *, cohort: Cohort, staging: Staging, seed: int) -> tuple[int, str]:
    """Draws the missing images of one cohort file and returns its part of the manifest."""
    entry = cohort.files[number]
    table = cohort.read(entry)
    rows = image_rows(table)
    pair_NPCL = pairs_of(table)
    straightness_N = [quality["straightness"] for quality in table["quality"].to_pylist()]
    look = cache(partial(cell_look, seed, entry.hospital))
    folders = {path.rpartition("/")[0] for path in rows["path"]}
    there = {f"{one}/{name}" for one in folders for name in files_in(staging.content / one)}
    for _, images in rows[~rows["path"].isin(there)].groupby("pair"):
        of = images.iloc[0]
        pair = int(of["pair"])
        drawn = draw_pair(
            pair_NPCL[pair],
            of["chromosome"],
            straightness_N[pair],
            look(of["cell_id"]),
            samples_per_px=cohort.scale[entry.hospital],
            draw=generator(seed, "image", entry.hospital, of["cell_id"], of["chromosome"]),
        )
        for path, homolog in zip(images["path"], images["homolog"], strict=True):
            with staging.writing(path) as temporary:
                Image.fromarray(drawn[homolog]).save(temporary, format="PNG")
    return len(rows), rows[[*REQUIRED, *OPTIONAL]].to_csv(index=False)
