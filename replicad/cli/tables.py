"""Tables for people: aligned by what a terminal shows, no frames."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

GAP = "  "


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the last one is not padded."""
    widths = [max(width(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    return "\n".join(
        GAP.join(pad(cell, widths[column]) for column, cell in enumerate(row)).rstrip() for row in (heads, *rows)
    )


def pad(text: str, columns: int) -> str:
    return text + " " * (columns - width(text))


def width(text: str) -> int:
    """In columns of a terminal: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )
