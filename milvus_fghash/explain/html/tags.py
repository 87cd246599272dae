"""Pieces of HTML that the parts of the page share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from milvus_fghash.core.untrusted_text import html, html_name
from milvus_fghash.datasets.dataset import Dataset


def readable(label: str) -> str:
    """A class name for people: data sets number them and join their words.

    >>> readable("013.Red_faced_Cormorant"), readable("007.")
    ('Red faced Cormorant', '007.')
    """
    return re.sub(r"^\d+[._]|_", " ", label).strip() or label


def percent(share: float | None) -> str:
    """A share of 0 to 1; only what is whole is called 0 % or 100 %.

    >>> percent(0.466), percent(0.999), percent(0.001), percent(1.0), percent(None)
    ('47\xa0%', '99\xa0%', '1\xa0%', '100\xa0%', '-')
    """
    if share is None:
        return "-"
    return f"{round(100 * share) if share in (0, 1) else min(max(round(100 * share), 1), 99)}\N{NO-BREAK SPACE}%"


def file_name(gallery: Dataset, row: int) -> str:
    """The name of a photo's file; its path when pointed at."""
    path = gallery.paths[row]
    return f'<span title="{html(path)}">{html_name(PurePosixPath(path).name)}</span>'


def figure(pictures: Sequence[tuple[str, str]], kind: str, caption: str) -> str:
    """Pictures above each other, each a file and what it shows in words; ``caption`` is HTML."""
    tiles = "".join(
        f'<div class="tile"><img loading="lazy" alt="{html(alt)}" src="{file}"></div>' for file, alt in pictures
    )
    return f'<figure class="{kind}">{tiles}<figcaption>{caption}</figcaption></figure>\n'
