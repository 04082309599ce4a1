import json

import pytest

from homnet.errors import ConfigError, DataError
from homnet.karyotype.bands import band_table
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.simulator.atlas import BandAppearance
from homnet.simulator.laboratory import Laboratory
from homnet.simulator.laboratory_file import FittedLaboratory, read_laboratory, write_laboratory

BANDS = BandAppearance(
    *(
        tuple(
            tuple(value + 0.001 * number for number in range(len(band_table(550)[name].bands)))
            for name in CHROMOSOMES
        )
        for value in (0.3, 1.0)
    )
)
FITTED = FittedLaboratory(
    Laboratory(contrast=77.5, band_levels=(0.0, 0.0, 1.0, 0.0), bands=BANDS), ("a1", "b2")
)


@pytest.mark.parametrize("fitted", [FITTED, FittedLaboratory(Laboratory(), ())])
def test_what_is_written_is_read(fitted, tmp_path):
    write_laboratory(tmp_path / "new" / "l.json", fitted)
    assert read_laboratory(tmp_path / "new" / "l.json") == fitted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["laboratory"].pop("warp"), "field 'laboratory.warp' is missing"),
        (lambda c: c["laboratory"].update(wrap=1.0), "unknown field 'laboratory.wrap'"),
        (lambda c: c["laboratory"].update(warp="wide"), "field 'laboratory.warp' is 'wide'"),
        (lambda c: c["laboratory"].update(warp=True), "expected a finite number"),
        (lambda c: c["laboratory"].update(samples_per_px=0), "expected a number above 0"),
        (lambda c: c["laboratory"].update(band_levels=[1.0]), "expected a list of 4 numbers"),
        (lambda c: c["laboratory"].update(band_levels=[1, 1, 0, 0]), "shares that add up to 1"),
        (lambda c: c["laboratory"]["bands"]["darkness"].pop(), "expected a list of 24 lists"),
        (lambda c: c["laboratory"]["bands"]["stretch"][7].pop(), r"stretch\[7\]' is .*, expected"),
        (
            lambda c: c["laboratory"]["bands"]["stretch"][2].__setitem__(3, -1.0),
            r"stretch\[2\]' is -1.0, expected numbers above 0",
        ),
        (lambda c: c["laboratory"].update(bands=3), "field 'laboratory.bands' is 3"),
        (lambda c: c.update(patients=[1]), "field 'patients' is"),
        (lambda c: c.pop("patients"), "field 'patients' is missing"),
    ],
)
def test_damage_is_named(change, message, tmp_path):
    path = tmp_path / "l.json"
    write_laboratory(path, FITTED)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=message) as caught:
        read_laboratory(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_laboratory(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(ConfigError, match="not a JSON file"):
        read_laboratory(tmp_path / "text.json")


def test_settings_that_are_not_finite_are_not_written(tmp_path):
    broken = FittedLaboratory(Laboratory(warp=float("nan")), ())
    with pytest.raises(DataError, match="finite"):
        write_laboratory(tmp_path / "l.json", broken)
