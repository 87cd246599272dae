r"""Untrusted text (labels, paths, cells of a list) made safe to show on a terminal, in HTML or in a spreadsheet.

Control characters, marks that change the direction of the text (U+202E) and bytes that are not UTF-8 are written as
escapes such as `\x1b`. JSON has its own escapes and stays exact.
"""

from __future__ import annotations

from typing import Final, TypeVar

T = TypeVar("T")

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")
"""First characters of cells that a spreadsheet evaluates, also full-width ones, and the apostrophe itself."""


def printable(value: object) -> str:
    r"""A value as text, with escapes for characters that are not printable or cannot be encoded.

    >>> printable("robin\x1b[2J.jpg")
    'robin\\x1b[2J.jpg'
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode() for letter in text
    )


def printable_lines(text: str) -> str:
    """`printable`, but with line breaks kept."""
    return "\n".join(map(printable, text.split("\n")))


def csv_cell(value: T) -> T | str:
    """A value for a cell of CSV: a text that a spreadsheet would compute gets an apostrophe in front, and so does a
    text that begins with one. Whoever takes one apostrophe away from the front has every text as it was.

    >>> csv_cell("=1+1"), csv_cell("'=1"), csv_cell("wren"), csv_cell(-1)
    ("'=1+1", "''=1", 'wren', -1)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
