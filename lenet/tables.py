"""Tables as text."""

from unicodedata import east_asian_width

from lenet.errors import printable


def table(title: str, columns: list[str], rows: list[list[str]], totals: bool = False) -> str:
    """A table under its title; its columns after the first are right-aligned.

    Args:
        columns: headings; empty strings for none.
        totals: whether the last row has the totals.
    """
    columns, *rows = [[printable(cell) for cell in row] for row in (columns, *rows)]
    shown = [columns, *rows] if any(columns) else rows
    widths = [max(map(display_width, column)) for column in zip(columns, *rows, strict=True)]
    lines = []
    for row in shown:
        spaces = [" " * (w - display_width(cell)) for w, cell in zip(widths, row, strict=True)]
        cells = [row[0] + spaces[0], *map("".join, zip(spaces[1:], row[1:], strict=True))]
        lines.append("  " + "  ".join(cells).rstrip())
    rule = " " + "─" * (sum(widths) + 2 * len(widths))
    if totals:
        lines.insert(-1, rule)
    if any(columns):
        lines.insert(1, rule)
    return "\n".join([printable(title), "", *lines, ""])


def display_width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(1 + (east_asian_width(character) in "WF") for character in text)
