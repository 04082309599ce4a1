import numpy as np
import pytest

from homnet.cohorts.cohort import write_cohort
from homnet.cohorts.summary import counts_table, summarise_cohort
from homnet.errors import DataError
from homnet.report.description import chromosome_image, draw_cohort
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import healthy, hospitals


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    people = [(healthy(), 1), (hospitals()[2], 4)]
    tables = [
        simulate_person(1, hospital, i, 3.0) for hospital, number in people for i in range(number)
    ]
    return write_cohort(
        tmp_path_factory.mktemp("cohort") / "cohort",
        tables,
        scale={hospital.name: 3.0 for hospital, _ in people},
        provenance={},
    )


def test_table_counts_pairs_and_says_so(cohort):
    summary = summarise_cohort(cohort)
    text = counts_table(summary)
    assert "one pair is two chromosomes" in text
    single = sum(sum(one["num_single_homolog"].values()) for one in summary["hospitals"].values())
    assert f"{cohort.num_pairs} pairs, {2 * cohort.num_pairs - single} chromosomes" in text
    row = next(line for line in text.splitlines() if line.startswith("hospital-3"))
    assert row.split()[1] == "4"


def test_picture_shows_every_type_and_an_abnormal_pair_per_hospital_with_patients(cohort):
    figure = draw_cohort(cohort, np.random.default_rng(0))
    karyogram, *examples = (axes for part in figure.subfigs for axes in part.axes)
    assert len(examples) == 1
    assert "hospital-3" in examples[0].get_title()
    labels = [text.get_text() for text in karyogram.texts]
    assert labels[:3] == ["1", "2", "3"]
    assert len(labels) == 24
    assert len(karyogram.images) >= 24
    assert len(examples[0].lines) == 1


def test_same_seed_draws_the_same_picture(cohort, tmp_path):
    for name in ("a", "b"):
        figure = draw_cohort(cohort, np.random.default_rng(3))
        figure.savefig(tmp_path / f"{name}.png", metadata={"Software": None})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_chromosome_image_has_both_chromatids_and_round_ends():
    sequence = np.zeros((2, 512), np.uint8)
    sequence[0, :90], sequence[1, :90] = 200, 40
    sequence[0, :5] = 100
    image = chromosome_image(sequence, 30)
    assert image.shape == (90, 30)
    assert image[45, 0] == 55
    assert image[45, -1] == 215
    assert image[0, 0] == image[-1, -1] == 255
    assert image[2, 13] > image[45, 13]


def test_an_empty_sequence_cannot_be_drawn():
    with pytest.raises(DataError, match="empty"):
        chromosome_image(np.zeros((2, 512), np.uint8), 30)
