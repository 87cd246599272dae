"""Pages escape what they are given, make control characters visible, and load nothing from elsewhere."""

from __future__ import annotations

import base64
import io
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from markupsafe import Markup
from PIL import Image

from milvus_fghash.core.html import Picture, breakable, preview, template_of
from milvus_fghash.core.untrusted_text import printable

SMALL_PAGE = """
{% extends "core/page.html" %}
{% from "core/macros.html" import figure, facts, verdict %}
{% block generator %}test{% endblock %}
{% block summary %}{{ facts([("term", text)]) }}{% endblock %}
{% block main %}{% call figure([picture], "right") %}{{ text }}{{ verdict(true) }}{% endcall %}{% endblock %}
"""
ANY = st.text(st.characters(codec=None))


class Tags(HTMLParser):
    """Start tags with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def small_page(text: str) -> str:
    return template_of(SMALL_PAGE).render(title=text, text=text, picture=Picture("x.jpg", text))


@given(ANY)
def test_no_text_breaks_out_of_its_place(text: str) -> None:
    page, empty = small_page(text), small_page("")
    assert [tag for tag, _ in Tags(page.replace("<wbr>", "")).found] == [tag for tag, _ in Tags(empty).found]
    assert all(line.isprintable() for line in page.split("\n"))
    (alt,) = [attributes["alt"] for tag, attributes in Tags(page).found if tag == "img"]
    assert alt == printable(text)


@given(ANY)
def test_a_breakable_name_is_the_name(text: str) -> None:
    shown = breakable(text)
    assert isinstance(shown, Markup)
    assert not set("<>\"'") & set(shown.replace("<wbr>", ""))
    assert unescape(shown.replace("<wbr>", "")) == printable(text)


def test_nothing_is_loaded_from_elsewhere() -> None:
    found = Tags(small_page("robin")).found
    (policy,) = [values["content"] for _, values in found if values.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert not {"script", "link", "iframe"} & {tag for tag, _ in found}


def test_a_value_that_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="title"):
        template_of(SMALL_PAGE).render(text="", picture=Picture("", ""))


@pytest.mark.parametrize("size", [(600, 300), (30, 20)])
def test_a_preview_is_a_small_jpeg_inside_the_page(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "red").save(tmp_path / "a.png")
    kind, _, data = preview(tmp_path / "a.png", "a", 160).source.partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == ((160, 80) if size == (600, 300) else size)


def test_a_photo_that_cannot_be_shown_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("no picture")
    assert preview(None, "a", 160) == Picture("", "a", "no photo")
    assert preview(tmp_path / "gone.png", "a", 160) == Picture("", "a", "no photo (missing)")
    assert preview(tmp_path / "broken.png", "a", 160) == Picture("", "a", "no photo (format)")
