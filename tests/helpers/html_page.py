"""What a page of HTML holds."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """Tags, classes, image sources and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.kinds: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.hrefs: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "srcset", "action") or name[:2] == "on"]
        self.hrefs += [given["href"] or ""] if tag == "a" else []
        if tag == "figure":
            self.kinds.append(given.get("class") or "")
        if tag == "img":
            self.sources.append(given["src"] or "")

    def handle_data(self, data: str) -> None:
        self.text += data
