"""The reference chromosome beside the cells."""

from xml.etree import ElementTree

from homnet.karyotype.bands import band_table
from homnet.karyotype.nomenclature import band_name
from homnet.patients.finding import BreakpointEstimate
from homnet.report.ideogram import ideogram


def test_every_band_is_drawn_and_a_breakpoint_named_in_its_band() -> None:
    place = BreakpointEstimate.at("5", 22.0, 19.0, 27.0, 400)
    parts = ideogram("5", 400, [place], x=80.0, centromere_y=60.0, height=200.0)
    drawn = [ElementTree.fromstring(part) for part in parts]
    bands = band_table(400)["5"].bands
    shapes = [one for one in drawn if one.attrib.get("stroke-width") == ".4"]
    assert len(shapes) == len(bands)
    words = [one.text for one in drawn if one.tag == "text"]
    assert words[-1] == "reference"
    assert words.count(place.band) == 2  # its label, and the arrow's


def test_a_merged_band_has_the_name_that_drafts_give_it() -> None:
    place = BreakpointEstimate.at("1", 20.0, 19.0, 21.0, 300)
    parts = ideogram("1", 300, [place], x=80.0, centromere_y=60.0, height=200.0)
    words = [ElementTree.fromstring(part).text for part in parts]
    assert words.count(band_name("1", 20.0, 300)) == words.count("p32~p36.3") == 2
