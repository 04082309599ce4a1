"""Markdown tables."""

from collections.abc import Iterable, Sequence


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns a table with text in the first column and numbers in the others."""
    ruler = ["---", *["---:"] * (len(heads) - 1)]
    # An unescaped bar in a name would end its cell.
    lines = [[str(value).replace("|", "\\|") for value in row] for row in (heads, ruler, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables_text(tables: Iterable[tuple[str, Sequence[str], Sequence[Sequence[object]]]]) -> str:
    """Returns tables with their titles.

    Args:
        tables: title, headings and rows of each table.
    """
    return "\n\n".join(f"{title}\n\n{markdown_table(heads, rows)}" for title, heads, rows in tables)
