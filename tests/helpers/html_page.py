"""Parse a page that a test wrote."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Self

LOADS = {"script", "link", "iframe", "object", "embed", "base"}
"""Elements that run or load something."""
BLOCKS = {"figcaption", "b", "span", "p", "div", "dt", "dd", "h1", "h2", "h3", "title", "td", "th", "li"}
"""Elements whose text is apart from that around them."""


class Page(HTMLParser):
    """What is on a page.

    Attributes:
        tags: start tags, in order.
        kinds: class of each figure.
        sources: of the images.
        alts: texts of the images, for those who cannot see them.
        hrefs: of the links.
        others: other attributes that load or run something.
        text: all text but the style sheet, blanks joined.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.kinds: list[str] = []
        self.sources: list[str] = []
        self.alts: list[str] = []
        self.hrefs: list[str] = []
        self.others: list[str] = []
        self._text = ""
        self._in_style = False
        self.feed(html)

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(path.read_text(encoding="utf-8"))

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", self._text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self._in_style = tag == "style"
        self.others += [f"{name}={value}" for name, value in attrs if name in ("srcset", "action", "data")]
        self.others += [name for name in given if name.startswith("on")]
        if tag == "a":
            self.hrefs.append(given["href"] or "")
        if tag == "figure":
            self.kinds.append(given.get("class") or "")
        if tag == "img":
            self.sources.append(given["src"] or "")
            self.alts.append(given["alt"] or "")
        if tag in BLOCKS:
            self._text += " "

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False
        if tag in BLOCKS:
            self._text += " "

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self._text += data

    def check_self_contained(self) -> None:
        """Fail if the page loads or runs anything; images must be inside."""
        assert not LOADS & set(self.tags)
        assert self.others == []
        assert all(source.startswith("data:image/jpeg;base64,") for source in self.sources)
