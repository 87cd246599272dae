"""The part of the page with the bits: what each stands for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from milvus_fghash.core.untrusted_text import html_name
from milvus_fghash.explain.bit_facts import BitFacts
from milvus_fghash.explain.contents import BitPart, Contents
from milvus_fghash.explain.html.tags import figure, file_name, percent, readable

NAMED = 3
"""Classes named in the title of a bit, on each side."""

INTRODUCTION = (
    "Each bit parts the gallery in two: photos that have it on, and photos that have it off. It need not be a thing "
    "with a name; what one side has in common is for you to see. Bits are counted from 0, the first of the code.",
    "<b>On</b>: the share of photos with the bit on; near 50 % it tells most photos apart, at 0 or 100 % none. "
    "<b>Agreement</b>: the share of photos that are on the side of most of their class. At 100 % every class is wholly "
    "on one side; a bit that knows nothing of classes has about the share of its larger side.",
)


def bits_part(contents: Contents) -> Iterator[str]:
    """HTML of all bits that are shown: a table, then a section for each."""
    yield f'<h2 id="bits">What each bit of {html_name(contents.names[0])} stands for</h2>\n'
    yield from (f"<p>{paragraph}</p>\n" for paragraph in INTRODUCTION)
    bit_scores = html_name(contents.models[0].bit_scores_name)
    yield f"<p>Shown are the photos with the largest and the smallest {bit_scores}, each on the side of its code, "
    yield "one of each class before a second of any.</p>\n"
    if any(part.heats for part in contents.bits):
        yield f"<p>Below each photo is a class-activation map of the bit alone, by its {bit_scores}: bright places "
        yield "speak for the side it is on, the brightest of each photo the most. A map that is dark all over has "
        yield "none.</p>\n"
    yield "<table>\n<tr><th>bit</th><th>on</th><th>agreement</th><th>on for / off for</th></tr>\n"
    for part in contents.bits:
        facts = part.facts
        bar = f'<span class="bar"><i style="width:{100 * facts.on:.0f}%"></i></span>'
        yield f'<tr><td><a href="#bit-{facts.bit}">bit {facts.bit}</a></td><td>{bar} {percent(facts.on)}</td>'
        yield f"<td>{percent(facts.agreement)}</td><td>{html_name(sides(facts))}</td></tr>\n"
    yield "</table>\n"
    for part in contents.bits:
        yield from _bit(contents, part)


def _bit(contents: Contents, part: BitPart) -> Iterator[str]:
    facts = part.facts
    yield f'<section id="bit-{facts.bit}">\n<h3>Bit {facts.bit}: {html_name(sides(facts))}</h3>\n'
    agreement = f", agreement {percent(facts.agreement)}" if facts.agreement is not None else ""
    yield f"<p>On in {percent(facts.on)} of the photos{agreement}.</p>\n"
    yield from _side(contents, part, "on", facts.typical_on)
    yield from _side(contents, part, "off", facts.typical_off)
    if facts.classes:
        yield f"<details><summary>On, class by class ({len(facts.classes):,})</summary>\n<p>"
        yield " \u00b7 ".join(f"{html_name(readable(one.label))} {percent(one.on)}" for one in facts.classes)
        yield "</p></details>\n"
    yield f'<p><a href="{part.picture}">Both sides as one picture</a></p>\n</section>\n'


def _side(contents: Contents, part: BitPart, side: str, rows: Sequence[int]) -> Iterator[str]:
    yield f'<h4>Most clearly {side}</h4>\n<div class="{side}">\n'
    share = {one.label: percent(one.on) for one in part.facts.classes}
    for row in rows:
        label = contents.gallery.labels[row]
        pictures = [(contents.photos[row], f"{readable(label) or 'a photo'}, bit {part.facts.bit} {side}")]
        if row in part.heats:
            pictures.append((part.heats[row], f"heat map: what holds bit {part.facts.bit} {side}"))
        caption = f"<b>{html_name(readable(label))}</b>on in {share[label]} of them" if label else ""
        yield figure(pictures, "", caption + file_name(contents.gallery, row))
    if not rows:
        yield f"<p>No photo has it {side}.</p>\n"
    yield "</div>\n"


def sides(facts: BitFacts) -> str:
    """What a bit is on and off for, in a line."""
    if facts.on in (0, 1):
        return f"always {'on' if facts.on else 'off'}"
    if not facts.classes:
        return f"on in {percent(facts.on)} of the photos"
    return f"on for {_few(facts.on_for)} / off for {_few(facts.off_for)}"


def _few(labels: Sequence[str]) -> str:
    if not labels:
        return "single photos only"
    more = len(labels) - NAMED
    return ", ".join(map(readable, labels[:NAMED])) + (f" and {more} more" if more > 0 else "")
