"""Rendering without noise against a loop over samples, and the effects one by one."""

from dataclasses import replace

import numpy as np
import pytest

from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.chromosomes import BAND_LEVELS
from homnet.simulator import genome
from homnet.simulator.laboratory import Laboratory
from homnet.simulator.rendering import Batch, render, tabulate

LEVEL = 1


@pytest.fixture
def quiet(quiet):
    return replace(quiet, band_levels=(0.0, 1.0, 0.0, 0.0), contrast=100.0)


def batch_of(homologs, slots, events=None, cells=None, level=LEVEL):
    slots = np.array(slots)
    return Batch(
        homologs=tabulate(homologs),
        homolog_NP=slots,
        cell_N=np.zeros(len(slots), int) if cells is None else np.array(cells),
        level_G=np.full(1 if cells is None else max(cells) + 1, level),
        landmark_HE=np.full((len(homologs), 2), np.nan) if events is None else np.array(events),
    )


def rendered(batch, laboratory, seed=0):
    return render(batch, laboratory, np.random.default_rng(seed))


def looped(homolog, laboratory):
    """Darkness of each sample well inside a chromosome, read from its bands one by one."""
    px_per_sample = 1 / laboratory.samples_per_px
    body_px = homolog.length_iscn * laboratory.px_per_iscn
    num_samples = round((body_px + 2 * laboratory.halo_px) * laboratory.samples_per_px)
    darkness = []
    for t in range(num_samples):
        at = ((t + 0.5) * px_per_sample - laboratory.halo_px) / laboratory.px_per_iscn
        at = min(max(at, 0.0), homolog.length_iscn - 1e-6)
        for segment in homolog.segments:
            if at < segment.length_iscn:
                break
            at -= segment.length_iscn
        inside = at / segment.stretch
        where = segment.stop - inside if segment.inverted else segment.start + inside
        bands = band_table(BAND_LEVELS[LEVEL])[segment.chromosome]
        base = band_table(FINEST_LEVEL)[segment.chromosome].to_bp(where)
        density = next(band.darkness for band in bands.bands if base < band.bp_stop)
        darkness.append(laboratory.darkness + laboratory.contrast * (density - 0.5))
    return np.array(darkness)


REARRANGED = {
    "normal": genome.reference("6"),
    "inversion": genome.invert(genome.reference("6"), 1500.0, 5000.0).homolog,
    "deletion": genome.delete(genome.reference("3"), 4000.0, 7000.0).homolog,
    "insertion": genome.insert(
        genome.reference("11"), 3000.0, genome.reference("2").span(8000.0, 9900.0).flipped()
    ).homolog,
    "stretch": genome.stretch(genome.reference("9"), 2773.0, 3695.0, 1.7),
}


@pytest.mark.parametrize("name", REARRANGED)
def test_rendering_reads_the_segments(name, quiet):
    homolog = REARRANGED[name]
    got = rendered(batch_of([homolog], [[0, 0]]), quiet).pair_NPCL[0, 0, 0]
    expected = looped(homolog, quiet)
    assert np.count_nonzero(got) == len(expected)
    middle = slice(10, len(expected) - 10)
    difference = np.abs(got[: len(expected)] - expected)[middle]
    # The atlas is binned, so a sample beside a band's border may fall on its other side.
    assert np.mean(difference < 1) > 0.93
    assert np.corrcoef(got[: len(expected)][middle], expected[middle])[0, 1] > 0.95


def test_shapes_background_and_empty_slots():
    homologs = [genome.reference(name) for name in ("1", "21", "Y")]
    rendering = rendered(batch_of(homologs, [[0, 1], [2, -1], [1, 1]]), Laboratory(), seed=4)
    assert rendering.pair_NPCL.shape == (3, 2, 2, 512)
    assert rendering.pair_NPCL.dtype == np.uint8
    assert not rendering.pair_NPCL[1, 1].any()
    for row, slot in ((0, 0), (0, 1), (1, 0), (2, 1)):
        on = rendering.pair_NPCL[row, slot] > 0
        length = on[0].sum()
        assert 0 < length < 512
        assert on[:, :length].all()
        assert not on[:, length:].any()


def test_absolute_length_is_kept(quiet):
    homologs = [genome.reference("1"), genome.reference("18")]
    pair = rendered(batch_of(homologs, [[0, 1]]), quiet).pair_NPCL[0]
    lengths = np.count_nonzero(pair[:, 0], axis=-1)
    expected = (np.array([15100, 4650]) * quiet.px_per_iscn + 2 * quiet.halo_px) * 3
    assert np.abs(lengths - expected).max() <= 1
    twice = replace(quiet, samples_per_px=1.5)
    coarse = rendered(batch_of(homologs, [[0, 1]]), twice).pair_NPCL[0]
    assert np.abs(np.count_nonzero(coarse[:, 0], axis=-1) - expected / 2).max() <= 1


def test_cells_share_condensation_and_higher_levels_are_longer(quiet):
    one = genome.reference("1")
    laboratory = replace(quiet, condensation_sd=0.2)
    batch = batch_of([one], [[0, 0]] * 4, cells=[0, 1, 0, 1])
    lengths = np.count_nonzero(rendered(batch, laboratory).pair_NPCL[..., 0, :], axis=-1)
    assert (lengths[0] == lengths[2]).all()
    assert (lengths[1] == lengths[3]).all()
    assert lengths[0, 0] != lengths[1, 0]
    long, short = (
        np.count_nonzero(rendered(batch_of([one], [[0, 0]], level=level), quiet).pair_NPCL[0, 0, 0])
        for level in (3, 0)
    )
    assert long > 1.2 * short


def test_flipped_chromosomes_are_upside_down(quiet):
    batch = batch_of([genome.reference("5")], [[0, 0]], events=[[1000.0, 3000.0]])
    upright = rendered(batch, quiet)
    upside = rendered(batch, replace(quiet, flip_rate=1.0))
    length = np.count_nonzero(upright.pair_NPCL[0, 0, 0])
    difference = upright.pair_NPCL[0, 0, 0, :length] - upside.pair_NPCL[0, 0, 0, :length][
        ::-1
    ].astype(int)
    assert np.abs(difference).mean() < 4
    start, stop = upright.landmark_NPE[0, 0]
    expected = [length - 1 - start, length - 1 - stop]
    assert np.abs(upside.landmark_NPE[0, 0] - expected).max() <= 1


def test_landmarks_are_located_on_the_sequence(quiet):
    changed = genome.invert(genome.reference("6"), 2000.0, 6000.0)
    nan = np.nan
    events = [[2000.0, 6000.0, nan, 4000.0], [nan, nan, nan, nan]]
    homologs = [changed.homolog, genome.reference("6")]
    event = rendered(batch_of(homologs, [[0, 1], [1, 0], [1, -1]], events), quiet).landmark_NPE
    sample = (np.array([2000.0, 6000.0, 4000.0]) * quiet.px_per_iscn + quiet.halo_px) * 3
    assert np.abs(event[0, 0, [0, 1, 3]] - sample).max() <= 1
    assert event[0, 0, 2] == -1
    assert (event[1, 1] == event[0, 0]).all()
    assert (event[0, 1] == -1).all()
    assert (event[2] == -1).all()


def test_levels_show_a_band_in_one_place(quiet):
    """The tables of the levels differ by up to 300 ISCN units in where they draw 3q11."""
    three = genome.reference("3")
    bands = band_table(FINEST_LEVEL)["3"]
    dark = bands.region("p12.3", "p12.1"), bands.region("q13.11", "q13.33")
    for level in range(len(BAND_LEVELS)):
        sequence = rendered(batch_of([three], [[0, 0]], level=level), quiet).pair_NPCL[0, 0, 0]
        length = np.count_nonzero(sequence)
        halo = quiet.halo_px * quiet.samples_per_px
        first, last = (np.array(dark[0]) / three.length_iscn * (length - 2 * halo) + halo).astype(
            int
        )
        beside = sequence[first - 6 : first - 2].mean(), sequence[last + 2 : last + 6].mean()
        assert sequence[first + 2 : last - 1].mean() > max(beside) + 5


def test_too_long_chromosomes_are_cut_and_flagged(quiet):
    homologs = [genome.reference("1"), genome.reference("2")]
    laboratory = replace(quiet, px_per_iscn=0.0115)
    rendering = rendered(batch_of(homologs, [[0, 0], [1, 1], [1, -1]]), laboratory)
    assert rendering.too_long_N.tolist() == [True, False, False]
    assert rendering.pair_NPCL[0, 0, 0, -1] > 0


def test_chromatids_and_homologs_differ_as_asked(quiet):
    batch = batch_of([genome.reference("2")], [[0, 0]])
    same = rendered(batch, quiet).pair_NPCL[0]
    assert (same[0] == same[1]).all()
    assert (same[:, 0] == same[:, 1]).all()
    own, shared = (
        rendered(batch, replace(quiet, **changed)).pair_NPCL[0].astype(int)
        for changed in (
            {"chromatid_texture": (0.0, 9.0, 0.0)},
            {"homolog_texture": (0.0, 0.0, 9.0)},
        )
    )
    assert (own[0, 0] - own[0, 1]).std() > 3
    assert np.abs(shared[0, 0] - shared[0, 1]).max() <= 1
    assert (shared[0, 0] - shared[1, 0]).std() > 5
