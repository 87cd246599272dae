"""`Advice` as rows of a table and as text, for the terminal and the page."""

from __future__ import annotations

from milvus_fghash.advice.result import NO_CLASSES, Advice, Cell
from milvus_fghash.core.html import counted
from milvus_fghash.evaluation.protocols import PROTOCOLS


def title_of(protocol: str) -> str:
    """What a protocol measures, in words."""
    return "neighbours by floats" if protocol == NO_CLASSES else f"{protocol}: {PROTOCOLS[protocol].title}"


def rows(advice: Advice) -> list[dict[str, object]]:
    """One row for each protocol, method and length, shorter codes first, with the floats above them."""
    found = []
    for protocol in dict.fromkeys(cell.protocol for cell in advice.cells):
        if floats := advice.floats.get(protocol):
            found.append(
                {
                    "gallery": title_of(protocol),
                    "method": "floats",
                    "bits": "",
                    "bytes": advice.float_bytes,
                    "mAP": f"{floats.map:.3f}",
                    "P@1": f"{floats.precision_at_1:.3f}",
                    "reach": f"{floats.reach:.2f}",
                    "neighbours": "1.00",
                    "search ms": "",
                }
            )
        cells = [cell for cell in advice.cells if cell.protocol == protocol]
        found += [_row(cell, title_of(protocol)) for cell in sorted(cells, key=lambda cell: (cell.method, cell.bits))]
    return found


def _row(cell: Cell, title: str) -> dict[str, object]:
    quality = cell.quality
    return {
        "gallery": title,
        "method": cell.method,
        "bits": cell.bits,
        "bytes": (cell.bits + 7) // 8,
        "mAP": f"{quality.map:.3f}" if quality else "",
        "P@1": f"{quality.precision_at_1:.3f}" if quality else "",
        "reach": f"{quality.reach:.2f}" if quality else "",
        "neighbours": f"{cell.neighbours:.2f}",
        "search ms": f"{cell.search_milliseconds:.0f}",
    }


def summary(advice: Advice) -> str:
    """What there is, what was measured on, and what was left out."""
    survey = advice.survey
    of_classes = "no photo has a class"
    if survey.classes:
        fewest, _, most = survey.class_sizes
        sizes = f"{fewest:,} to {most:,}" if fewest < most else f"{most:,}"
        of_classes = f"{counted(survey.classes, 'class', 'classes')} of {sizes} photos"
        if survey.without_class:
            of_classes += f", {counted(survey.without_class, 'photo')} without a class"
    texts = [
        f"{counted(survey.photos, 'photo')}, {of_classes}",
        f"measured on {counted(survey.sampled, 'photo')}"
        + (f" of {counted(survey.sampled_classes, 'class', 'classes')}" if survey.classes else ""),
        f"queries: those of {advice.query_split}" if advice.query_split else "queries: a third of them in turn",
    ]
    if survey.copies or survey.unreadable:
        texts.append(f"left out: {counted(survey.copies, 'copy', 'copies')}, {survey.unreadable:,} unreadable")
    if advice.encode_milliseconds is not None:
        texts.append(f"{advice.encode_milliseconds:.0f} ms a photo for the features of {advice.encoder}")
    texts += advice.left_out
    return "; ".join(texts)
