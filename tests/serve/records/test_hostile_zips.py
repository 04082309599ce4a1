"""Hostile zips: every kind is made, and none of them is more than refused."""

from itertools import islice

import numpy as np
import pytest

from homnet.imaging.extraction import ExtractionConfig
from homnet_serve.archives import measure_images, read_manifest_of_body
from homnet_serve.config import Limits
from homnet_serve.errors import RequestError
from homnet_serve.records.hostile_zips import IMAGES_PER_ZIP, image_zips, manifest_zips


@pytest.mark.parametrize(("make", "num_kinds"), [(image_zips, 8), (manifest_zips, 7)])
def test_each_kind_is_measured_or_refused_in_a_sentence(make, num_kinds):
    kinds, errors = set(), []
    for kind, body in islice(make(np.random.default_rng(3), "h1"), 3 * num_kinds):
        kinds.add(kind)
        limits = Limits()
        try:
            archive, manifest = read_manifest_of_body(
                body, hospital="h1", band_level=550, limits=limits
            )
            configs = dict.fromkeys(manifest["hospital"], ExtractionConfig())
            found = measure_images(archive, manifest, configs, limits)
            assert make is manifest_zips or len(manifest) == IMAGES_PER_ZIP
            assert all(one.reason for images in found.refused.values() for one in images)
        except RequestError as error:
            errors.append(error)
    assert len(kinds) == num_kinds
    assert make is image_zips or errors
    assert {error.status for error in errors} <= {413, 422}
    assert all("\n" not in str(error) and len(str(error)) < 500 for error in errors)
