"""Pages: escaped, and strict about what their templates ask for."""

import jinja2
import pytest

from homnet.report.html import data_uri, label, render_page, style_sheet


def test_what_a_template_lacks_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render_page("worklist.html.j2", rows=[])


def test_names_become_words() -> None:
    assert label("num_abnormal_pairs") == "abnormal pairs"
    assert label("band_level") == "band level"


def test_a_picture_becomes_part_of_a_page() -> None:
    assert data_uri(b"<svg/>", "svg+xml") == "data:image/svg+xml;base64,PHN2Zy8+"


def test_style_sheets_follow_one_another() -> None:
    both = style_sheet("style.css", "patient.css")
    assert both == style_sheet("style.css") + style_sheet("patient.css")
    assert ".verdict" in style_sheet("patient.css")
    assert ".verdict" not in style_sheet("style.css")
