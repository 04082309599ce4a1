import numpy as np
import pytest

from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.karyotype.kinds import SIMULATED
from homnet.simulator.breakpoints import bands_within
from homnet.simulator.events import derive
from homnet.simulator.genome import reference
from homnet.simulator.recurrent import CONTEXTS, RECURRENT, draw_recurrent

EVERY = [one for context in CONTEXTS for one in RECURRENT[context]]
WOMAN, MAN = CHROMOSOMES[:23], CHROMOSOMES[:22]


@pytest.mark.parametrize("one", EVERY, ids=lambda one: f"{one.kind}-{'-'.join(one.chromosomes)}")
def test_breakpoints_lie_in_the_named_bands(one):
    assert one.kind in SIMULATED
    for seed in range(5):
        event = one.draw(np.random.default_rng(seed))
        assert event.chromosomes == one.chromosomes
        assert len(event.breakpoints) == len(one.bands)
        for place, band in zip(event.breakpoints, one.bands, strict=True):
            if place.centromeric is not None:
                assert place.centromeric == band
                continue
            bands = bands_within(place.chromosome, band)
            assert bands[0].iscn_start <= place.iscn <= bands[-1].iscn_stop
        derive(event, {name: reference(name) for name in event.chromosomes})
        # What no microscope shows is not there.
        assert event.size_mb > 2


def test_only_what_the_person_can_have_is_drawn():
    generator = np.random.default_rng(0)
    drawn = [draw_recurrent(generator, "constitutional", SIMULATED, MAN) for _ in range(200)]
    assert all("X" not in event.chromosomes for event in drawn)
    women = [draw_recurrent(generator, "constitutional", SIMULATED, WOMAN) for _ in range(200)]
    assert any("X" in event.chromosomes for event in women)
    deletions = [draw_recurrent(generator, "haematological", ["deletion"], MAN) for _ in range(50)]
    assert {event.kind for event in deletions} == {"deletion"}
    assert draw_recurrent(generator, "constitutional", ["robertsonian"], WOMAN) is None
