r"""Text from outside (labels, paths, cells of a list), made safe to be shown: on a terminal, in HTML, in a spreadsheet.

Whatever would act there instead of being read is written as an escape such as `\x1b`: control characters, marks that
turn the direction of what follows (U+202E), bytes that are no UTF-8. JSON has escapes of its own and stays exact.
"""

from __future__ import annotations

import re
from html import escape
from typing import Final, TypeVar

T = TypeVar("T")

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")
"""First characters of a cell that a spreadsheet computes, those of full width and the mark itself included."""


def printable(value: object) -> str:
    r"""A value as text, in which what would move the cursor or cannot be encoded is written as an escape.

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
    """`printable`, in which line breaks stay."""
    return "\n".join(map(printable, text.split("\n")))


def html(value: object) -> str:
    r"""`printable` for HTML, inside quotes too.

    >>> html('<b title="\x1b">')
    '&lt;b title=&quot;\\x1b&quot;&gt;'
    """
    return escape(printable(value))


def html_name(value: object) -> str:
    """`html`, free to break after the marks that join words in names.

    >>> html_name("wren/001_a.jpg")
    'wren/<wbr>001_<wbr>a.jpg'
    """
    return re.sub(r"(?<=[_/\-])(?=[^\W_])", "<wbr>", html(value))


def csv_cell(value: T) -> T | str:
    """A value for a cell of CSV: a text that a spreadsheet would compute gets an apostrophe in front, and so does a
    text that begins with one. Whoever takes one apostrophe away from the front has every text as it was.

    >>> csv_cell("=1+1"), csv_cell("'=1"), csv_cell("wren"), csv_cell(-1)
    ("'=1+1", "''=1", 'wren', -1)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
