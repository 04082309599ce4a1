"""Normal variants are recognised by their bands, and nothing else is."""

import pytest

from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.variants import HETEROCHROMATIN, INVERTED, known_variant


@pytest.mark.parametrize(
    ("chromosome", "kind", "start", "stop", "variant"),
    [
        ("9", "inversion", (38.0, 41.0), (62.0, 68.0), "inv(9)(p12q13)"),
        ("9", "inversion", (20.0, 22.0), (62.0, 68.0), None),
        ("9", "inversion", (38.0, 41.0), (100.0, 101.0), None),
        ("5", "inversion", (38.0, 41.0), (62.0, 68.0), None),
        ("9", "deletion", (38.0, 41.0), (62.0, 68.0), None),
        ("1", "duplication", (126.0, 127.0), (140.0, 141.0), "1qh"),
        ("1", "duplication", (126.0, 127.0), (160.0, 161.0), None),
        ("21", "deletion", None, (7.0, 8.0), "satellite and stalk of 21p"),
        ("21", "insertion_translocation", None, (7.0, 8.0), "satellite and stalk of 21p"),
        ("21", "deletion", (30.0, 31.0), None, None),
        ("21", "robertsonian", None, (11.0, 12.0), None),
    ],
)
def test_what_is_a_variant(chromosome, kind, start, stop, variant):
    assert known_variant(chromosome, kind, start, stop) == variant


def test_all_bands_exist():
    for chromosome, bands in {**HETEROCHROMATIN, **INVERTED}.items():
        labels = {band.label for band in band_table(FINEST_LEVEL)[chromosome].bands}
        for band in bands:
            assert any(label == band or label.startswith(f"{band}.") or
                       ("." in band and label.startswith(band)) for label in labels)  # fmt: skip
