"""The part of the page with the queries: where a model looks, and what it finds."""

from __future__ import annotations

from collections.abc import Iterator

from milvus_fghash.core.untrusted_text import html_name
from milvus_fghash.explain.contents import Contents, QueryPart
from milvus_fghash.explain.html.tags import figure, file_name, readable
from milvus_fghash.explain.model import Model
from milvus_fghash.explain.queries import Query
from milvus_fghash.explain.retrieval import Retrieved

ROWS = (
    "Nearest photos: in the order of their distance, the number of bits that differ from the query's code; equally "
    "near ones in the order of their ids. Green and \u2713: of the query's class. Red and \u2717: of another. No "
    "frame: a class is not known."
)


def queries_part(contents: Contents) -> Iterator[str]:
    """HTML of all queries, with how to read them."""
    yield '<h2 id="queries">Where it looks, and what it finds</h2>\n'
    yield "<p>For each query: the photo as the model sees it, maps over it (dark violet is cold, yellow is hot), and "
    yield "the nearest photos of the gallery.</p>\n<ul>\n"
    for reading in dict.fromkeys(_readings(contents)):
        kind, _, rest = reading.partition(":")
        yield f"<li><b>{html_name(kind)}</b>:{html_name(rest)}</li>\n"
    yield "</ul>\n"
    for number, part in enumerate(contents.queries, 1):
        yield from _query(contents, number, part)


def _readings(contents: Contents) -> Iterator[str]:
    for model in contents.models:
        yield from model.readings.values()
    yield ROWS
    for name, model in zip(contents.names, contents.models, strict=True):
        yield from (f"Not shown of {name}: {sentence}" for sentence in model.absent)


def _query(contents: Contents, number: int, part: QueryPart) -> Iterator[str]:
    query, names = part.query, contents.names
    subject = readable(query.label) or "a photo whose class is not known"
    yield f'<section id="query-{number}">\n<h3>Query {number}: {html_name(subject)}</h3>\n'
    yield f'<p class="dim">{html_name(query.name)}</p>\n'
    for name, views, left_out in zip(names, part.views, part.left_out, strict=True):
        if len(names) > 1:
            yield f"<h4>Where {html_name(name)} looks</h4>\n"
        yield '<div class="maps">\n' + figure([(part.photo, f"the query, {subject}")], "", "<b>Photo</b>")
        for view in views:
            caption = f"<b>{html_name(view.kind.capitalize())}</b>{html_name(view.caption)}"
            yield figure([(view.file, f"{view.kind} over the query: {view.caption}")], "", caption)
        yield "</div>\n"
        if left_out:
            yield f'<p class="dim">{html_name(left_out)}</p>\n'
    for name, model, found in zip(names, contents.models, part.found, strict=True):
        yield from _row(contents, name, model, query, found)
    yield f'<p><a href="{part.picture}">What it finds, as one picture</a></p>\n</section>\n'


def _row(contents: Contents, name: str, model: Model, query: Query, found: Retrieved) -> Iterator[str]:
    labels = contents.gallery.labels
    right = sum(labels[hit.row] == query.label for hit in found.hits)
    said = f"{right} of the {len(found.hits)} nearest are of its class" if query.label else "the nearest"
    said = said if found.hits else "the gallery holds no other photo"
    yield f'<h4>{html_name(name)}: {said}</h4>\n<div class="found">\n'
    for hit in found.hits:
        label = labels[hit.row]
        kind = verdict(query.label, label)
        distance = f"{hit.distance} of {model.bits} bits"
        alt = f"{readable(label) or 'a photo'}, {distance} differ" + (f", {kind} class" if kind else "")
        caption = f"<b>{distance}</b>{html_name(readable(label))}{file_name(contents.gallery, hit.row)}"
        yield figure([(contents.photos[hit.row], alt)], kind, caption)
    yield "</div>\n"
    if found.cut:
        more = f"{found.cut:,} more photos are" if found.cut > 1 else "1 more photo is"
        yield f'<p class="dim">{more} as near as the last one here.</p>\n'


def verdict(wanted: str, label: str) -> str:
    """ "right" or "wrong"; "" where one of the classes is not known."""
    if not wanted or not label:
        return ""
    return "right" if label == wanted else "wrong"
