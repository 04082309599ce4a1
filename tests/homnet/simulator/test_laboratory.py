import pytest

from homnet.errors import ConfigError
from homnet.simulator.laboratory import HospitalConfig, Laboratory, healthy, hospitals


def test_four_hospitals_differ_in_equipment_and_patients():
    every = hospitals()
    assert [hospital.name for hospital in every] == [f"hospital-{i}" for i in (1, 2, 3, 4)]
    for field in ("px_per_iscn", "contrast", "blur_px", "band_levels", "darkness"):
        assert len({getattr(hospital.laboratory, field) for hospital in every}) >= 3, field
    assert len({tuple(hospital.kinds.items()) for hospital in every}) == 4


def test_healthy_people_are_seen_with_the_equipment_of_hospital_1():
    assert healthy().laboratory == hospitals()[0].laboratory
    assert healthy().abnormal_fraction == 0.0


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="'trisomy'"):
        HospitalConfig("h", kinds={"trisomy": 1.0})
    with pytest.raises(ConfigError, match=r"abnormal_fraction is 1\.5"):
        HospitalConfig("h", abnormal_fraction=1.5)
    with pytest.raises(ConfigError, match="unknown context 'prenatal'; choose among const"):
        HospitalConfig("h", context="prenatal")
    with pytest.raises(ConfigError, match=r"mosaic_share is -0\.1; give a share"):
        HospitalConfig("h", mosaic_share=-0.1)
    for fraction in ((0.0, 0.5), (0.6, 0.5), (0.5, 1.1)):
        with pytest.raises(ConfigError, match="clone_fraction is"):
            HospitalConfig("h", clone_fraction=fraction)
    with pytest.raises(ConfigError, match="add up to 1"):
        HospitalConfig("h", Laboratory(band_levels=(0.5, 0.5, 0.5, 0.0)))
