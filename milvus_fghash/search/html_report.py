"""Search results as one HTML page that needs nothing else: photos are inside, nothing is loaded or run.

Its parts (`opening`, `figure`, `inside`) make the page of duplicates too.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.core.images import Preprocessing, open_rgb
from milvus_fghash.core.untrusted_text import html, html_name
from milvus_fghash.errors import ImageRejected
from milvus_fghash.search.search import Hit, SearchResult

SIDE: Final = 256
"""Longest side of a thumbnail in pixels: sharp on screens of double density."""

MAX_FACT: Final = 80
"""Letters of a value of `meta` or of a column."""

STYLE: Final = """
:root { color-scheme: light dark; --line: #8883; --dim: #777; --right: #1a9850; --wrong: #d73027; }
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; padding: 1.5rem; max-width: 90rem; }
h1 { font-size: 1.35rem; margin: 0 0 .25rem; }
p { margin: 0 0 1rem; color: var(--dim); }
section { display: grid; grid-template-columns: 11rem 1fr; gap: 1.5rem; padding: 1.25rem 0;
  border-top: 1px solid var(--line); }
section > div { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: 1rem .75rem;
  align-content: start; }
section > div > p { grid-column: 1 / -1; }
figure { margin: 0; min-width: 0; }
.tile { aspect-ratio: 1; border-radius: 6px; background: #8882; display: grid; place-items: center; overflow: hidden;
  color: var(--dim); font-size: .8rem; text-align: center; }
.tile img { width: 100%; height: 100%; object-fit: cover; }
.right .tile { outline: 3px solid var(--right); outline-offset: 1px; }
.wrong .tile { outline: 3px solid var(--wrong); outline-offset: 1px; }
figcaption { margin-top: .45rem; font-size: .82rem; line-height: 1.3; overflow-wrap: anywhere; }
figcaption b, figcaption span { display: block; }
figcaption b { font-variant-numeric: tabular-nums; }
figcaption span { color: var(--dim); font-size: .72rem; }
.right b::after { content: " \\2713"; color: var(--right); }
.wrong b::after { content: " \\2717"; color: var(--wrong); }
@media (max-width: 40rem) {
  body { padding: 1rem; }
  section { grid-template-columns: 1fr; gap: .9rem; }
  section > figure { display: grid; grid-template-columns: 9rem 1fr; gap: .75rem; }
  section > figure figcaption { margin-top: 0; }
  section > div { grid-template-columns: repeat(auto-fill, minmax(6.25rem, 1fr)); }
}
"""


@dataclass(frozen=True)
class Query:
    """One row of the page.

    Attributes:
        name: what was searched by: a path, an id or a code.
        found: what came back.
        photo: the query's own photo, if there is one.
        label: its class; hits are then framed green or red.
    """

    name: str
    found: SearchResult
    photo: Path | bytes | None = None
    label: str | None = None


def write_gallery(path: Path, queries: Sequence[Query], photos: Path, title: str = "Search results") -> None:
    """Write the page.

    Args:
        photos: folder the hits' paths are relative to. A photo that is not there gets a blank tile.

    Raises:
        DataError: when the file cannot be written.
    """
    page = "".join(_page(queries, photos, title)).encode(errors="backslashreplace")  # file names need not be UTF-8
    write_atomic(path, page)


def _page(queries: Sequence[Query], photos: Path, title: str) -> Iterator[str]:
    yield opening(title)
    yield "<p>The number of bits that differ, nearest first. The folder is shown when you point at a name.</p>\n"
    for query in queries:
        yield "<section>\n"
        yield figure(
            query.photo, "query", f"<b>{html_name(query.label or 'Query')}</b><span>{html_name(query.name)}</span>"
        )
        yield "<div>\n"
        for hit in query.found.hits:
            yield figure(inside(photos, hit.path), _verdict(query.label, hit), _caption(hit))
        if not query.found.hits:
            yield "<p>Nothing was found.</p>\n"
        yield "</div>\n</section>\n"
        if told := query.found.told:
            yield f"<p>{html(told)}</p>\n"
    yield "</html>\n"


def opening(title: str, more_style: str = "", mark: str = "") -> str:
    """A page from its first line to its heading; ``mark`` is a line that tells it from others."""
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n{mark}<title>{html(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}{more_style}</style>\n<h1>{html(title)}</h1>\n"
    )


def _caption(hit: Hit) -> str:
    name = html_name(PurePosixPath(hit.path).name)
    facts = "".join(f"<span>{html_name(fact)}</span>" for fact in _facts({**hit.columns, **hit.meta}))
    return f'<b>{bits_apart(hit.distance)}</b>{html_name(hit.label)}<span title="{html(hit.path)}">{name}</span>{facts}'


def _facts(values: Mapping[str, Any]) -> Iterator[str]:
    """Names and values as in JSON, texts without quotes; long ones are cut."""
    for name, value in values.items():
        words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield f"{name}: {words if len(words) <= MAX_FACT else words[:MAX_FACT] + '...'}"


def bits_apart(distance: int) -> str:
    """A distance in words.

    >>> bits_apart(0), bits_apart(1)
    ('0 bits', '1 bit')
    """
    return f"{distance} bit" if distance == 1 else f"{distance} bits"


def _verdict(label: str | None, hit: Hit) -> str:
    if not label or not hit.label:
        return ""
    return "right" if hit.label == label else "wrong"


def figure(photo: Path | bytes | None, kind: str, caption: str, side: int = SIDE) -> str:
    """A photo as a thumbnail, its longest side of ``side`` pixels, and what stands below it; ``caption`` is HTML."""
    tile = _tile(photo, side)
    return f'<figure class="{kind}"><div class="tile">{tile}</div><figcaption>{caption}</figcaption></figure>\n'


def _tile(photo: Path | bytes | None, side: int) -> str:
    """A thumbnail inside the page, or why there is none."""
    if photo is None:
        return "no photo"
    try:
        image = open_rgb(photo, preprocessing=Preprocessing(size=side, resize=side))
    except ImageRejected as error:
        return f"no photo<br>({html(error.reason)})"
    image.thumbnail((side, side))
    raw = io.BytesIO()
    image.save(raw, "JPEG", quality=80)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(raw.getvalue()).decode()}">'


def inside(photos: Path, path: str) -> Path | None:
    """The file of a hit; None for a path that leads out of the folder, for rows may be written by others."""
    relative = PurePosixPath(path)
    if not path or relative.is_absolute() or ".." in relative.parts:
        return None
    return photos / relative


def absent(photos: Path, paths: Iterable[str]) -> str:
    """A sentence on photos of a page that are not in the folder, which may be the wrong one; "" when all are there."""
    files = [inside(photos, path) for path in dict.fromkeys(paths)]
    missing = sum(file is None or not os.path.exists(file) for file in files)
    if not missing:
        return ""
    if missing == len(files):
        return f"none of the {missing:,} photos of the page is in {photos}; expected the folder that was ingested"
    return f"{missing:,} of the {len(files):,} photos of the page are not in {photos}; their places are blank"
