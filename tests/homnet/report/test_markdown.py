"""Tables in Markdown."""

from homnet.report.markdown import markdown_table, tables_text


def test_a_bar_in_a_name_ends_no_cell() -> None:
    table = markdown_table(["a|b", "n"], [["x", 1], ["y|z", 2.5]])
    assert table.splitlines() == [
        "| a\\|b | n |",
        "| --- | ---: |",
        "| x | 1 |",
        "| y\\|z | 2.5 |",
    ]


def test_tables_stand_under_their_titles() -> None:
    text = tables_text([("First", ["a"], [["1"]]), ("Second", ["b"], [])])
    assert text == "First\n\n| a |\n| --- |\n| 1 |\n\nSecond\n\n| b |\n| --- |"
