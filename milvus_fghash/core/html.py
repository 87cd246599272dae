"""HTML pages from Jinja2 templates: one look, all text escaped, nothing loaded from elsewhere, no scripts.

A page is a template that extends ``core/page.html``. Templates lie beside the code that renders them and are named by
their path inside the package: ``render("search/gallery.html", ...)``. Every value is escaped, and control characters in
it are made visible (`printable`). `Markup` is trusted: build it in templates only, and never join it to text by ``~``.
"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape
from PIL import Image

from milvus_fghash.core.images import Preprocessing, open_rgb
from milvus_fghash.core.labels import split_labels
from milvus_fghash.core.untrusted_text import printable
from milvus_fghash.errors import ImageRejected

PREVIEW_QUALITY: Final = 70
"""JPEG quality of the pictures inside a page."""


@dataclass(frozen=True)
class Picture:
    """A picture on a page, for the macro ``figure``.

    Attributes:
        source: a data URI, or the URL of a file beside the page; "" shows ``problem`` in its place.
        alt: what it shows, in words.
        problem: why there is no picture.
    """

    source: str
    alt: str
    problem: str = ""


def render(template: str, **values: object) -> bytes:
    """A page as UTF-8.

    Raises:
        jinja2.UndefinedError: when the template uses a value that is not given.
    """
    return _environment().get_template(template).render(values).encode()


def template_of(source: str) -> Template:
    """A template from its text instead of a file; it may extend and import the others."""
    return _environment().from_string(source)


def preview(photo: Path | bytes | None, alt: str, side: int, quality: int = PREVIEW_QUALITY) -> Picture:
    """A small copy of a photo inside the page, its longest side of at most ``side`` pixels."""
    if photo is None:
        return Picture("", alt, "no photo")
    try:
        image = open_rgb(photo, preprocessing=Preprocessing(size=side, resize=side))
    except ImageRejected as error:
        return Picture("", alt, f"no photo ({error.reason})")
    image.thumbnail((side, side))
    return Picture(data_uri(image, quality), alt)


def data_uri(image: Image.Image, quality: int = PREVIEW_QUALITY) -> str:
    """An RGB image as a JPEG inside a URL."""
    raw = io.BytesIO()
    image.save(raw, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(raw.getvalue()).decode()}"


def breakable(value: object) -> Markup:
    """A name or path that may be wrapped after the marks that join its words.

    >>> breakable("wren/001_a.jpg")
    Markup('wren/<wbr>001_<wbr>a.jpg')
    """
    return Markup(re.sub(r"(?<=[_/\-])(?=[^\W_])", "<wbr>", escape(printable(value))))


def readable(label: str) -> str:
    """A label for people: data sets number their classes and join words by underscores.

    >>> readable("013.Red_faced_Cormorant"), readable("007."), readable("|clear_sky|water|")
    ('Red faced Cormorant', '007.', 'clear sky, water')
    """
    return ", ".join(re.sub(r"^\d+[._]|_", " ", name).strip() or name for name in split_labels(label))


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun.

    >>> counted(1, "photo"), counted(1234, "photo"), counted(2, "copy", "copies")
    ('1 photo', '1,234 photos', '2 copies')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("milvus_fghash", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else printable(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"breakable": breakable, "readable": readable, "counted": counted}
    return environment
