"""Pictures of verdicts on patients: drawn to the byte from their numbers."""

from xml.etree import ElementTree

from homnet.report.patient_figures import detection_curve, reliability_figure


def test_figures_are_svg_and_the_same_for_the_same_numbers() -> None:
    share = {"value": 0.5, "low": 0.2, "high": 0.8, "count": 3, "total": 6}
    bins = [{"probability": 0.1, "abnormal": share}, {"probability": 0.9, "abnormal": share}]
    sizes = {"5 to 10 Mb": {"sensitivity": share}, "over 10 Mb": {"sensitivity": share}}
    for draw, numbers in ((reliability_figure, bins), (detection_curve, sizes)):
        picture = draw(numbers)
        assert ElementTree.fromstring(picture).tag.endswith("svg")
        assert picture == draw(numbers)
