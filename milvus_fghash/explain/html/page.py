"""The page around its parts. Nothing is loaded from elsewhere or run; it opens from the disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from milvus_fghash.core.untrusted_text import html, html_name
from milvus_fghash.encoding.decode_stream import Rejected
from milvus_fghash.explain.contents import Contents
from milvus_fghash.explain.html.bits import bits_part
from milvus_fghash.explain.html.queries import queries_part

TILES: Final = """
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
STYLE: Final = f"""{TILES}
body {{ max-width: 76rem; }}
h1 {{ font-size: 1.6rem; }}
h2 {{ font-size: 1.3rem; margin: 2.5rem 0 .5rem; }}
h3 {{ font-size: 1.1rem; margin: 0 0 .25rem; }}
h4 {{ font-size: .95rem; margin: 1.1rem 0 .6rem; }}
p {{ color: inherit; max-width: 48rem; }}
section {{ display: block; }}
section > div + p, section > div + details {{ margin-top: .8rem; }}
section > div.found {{ grid-template-columns: repeat(auto-fill, minmax(6.1rem, 1fr)); }}
section > div.maps {{ grid-template-columns: repeat(auto-fill, minmax(9.5rem, 11.5rem)); }}
section > div.on, section > div.off {{ grid-template-columns: repeat(6, 1fr); max-width: 60rem; }}
.dim, dt {{ color: var(--dim); }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0 0 1rem; }}
dd {{ margin: 0; overflow-wrap: anywhere; }}
ul {{ max-width: 48rem; padding-left: 1.2rem; }}
table {{ border-collapse: collapse; width: 100%; font-size: .88rem; }}
th, td {{ text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-top: 1px solid var(--line); }}
td:nth-child(-n+3) {{ white-space: nowrap; font-variant-numeric: tabular-nums; }}
.bar {{ display: inline-block; width: 4rem; height: .55rem; background: #8884; border-radius: 2px; }}
.bar i {{ display: block; height: 100%; background: #4a7fb5; border-radius: 2px; }}
.tile + .tile {{ margin-top: .3rem; }}
@media (max-width: 40rem) {{
  section > div.maps {{ grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }}
  dl {{ grid-template-columns: 1fr; }}
  dt {{ margin-top: .4rem; }}
  section > div.on, section > div.off {{ grid-template-columns: repeat(3, 1fr); }}
  th:nth-child(4), td:nth-child(4) {{ display: none; }}
}}
"""


MARK: Final = '<meta name="generator" content="milvus-fghash explain">'
"""Tells a page of ours from others."""


def page(contents: Contents) -> bytes:
    """The whole page; file names in it need not be UTF-8."""
    return "".join(_page(contents)).encode(errors="backslashreplace")


def _page(contents: Contents) -> Iterator[str]:
    title = "What " + " and ".join(contents.names) + " learned"
    yield f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n{MARK}\n<title>{html(title)}</title>\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<style>{STYLE}</style>\n<h1>{html_name(title)}</h1>\n"
    yield "<p>A model turns each photo into a code: a row of bits, each on or off. Photos whose codes differ in few "
    yield "bits count as alike. This page shows where the codes come from, and what they find.</p>\n"
    yield from _facts(contents)
    links = [("queries", "Where it looks, and what it finds"), ("bits", "What each bit stands for")]
    links += [("rejected", "Photos that could not be read")] if contents.rejected else []
    yield "<p>" + " \u00b7 ".join(f'<a href="#{target}">{words}</a>' for target, words in links) + "</p>\n"
    yield from queries_part(contents)
    yield from bits_part(contents)
    yield from _rejected(contents.rejected)
    yield "</html>\n"


def _facts(contents: Contents) -> Iterator[str]:
    facts = [
        (term, f"{name}; {model.kind} {model.path}, training {model.lineage}")
        for term, name, model in zip(("Model", "Second model"), contents.names, contents.models, strict=False)
    ]
    classes = len(set(contents.gallery.labels) - {""})
    facts += [
        ("Gallery", f"{contents.n_gallery:,} photos of {classes:,} classes: {contents.gallery_name}"),
        ("Queries", f"{len(contents.queries):,} photos: {contents.queries_name}"),
    ]
    yield "<dl>\n" + "".join(f"<dt>{term}</dt><dd>{html_name(said)}</dd>\n" for term, said in facts) + "</dl>\n"


def _rejected(rejected: Sequence[Rejected]) -> Iterator[str]:
    if not rejected:
        return
    yield '<h2 id="rejected">Photos that could not be read</h2>\n<p>They are in nothing above.</p>\n<ul>\n'
    yield from (f"<li>{html_name(f'{one.path}: {one.message} ({one.reason})')}</li>\n" for one in rejected)
    yield "</ul>\n"
