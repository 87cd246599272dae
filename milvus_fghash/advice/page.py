"""`Advice` as an HTML page: the plot of quality against bytes, the table, and queries whose hits differ."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import Final

from milvus_fghash.advice.result import LENGTHS, Advice, Cell
from milvus_fghash.advice.tables import rows, summary, title_of
from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.core.html import Picture, preview, render
from milvus_fghash.evaluation.plots import Line, line_chart, write_figure

PREVIEW_SIDE: Final = 112
"""Longest side of a preview in pixels."""


def write_advice_page(path: Path, advice: Advice, photos: Path, command: str = "") -> None:
    """Write the page.

    Args:
        path: the file.
        advice: what to show.
        photos: folder that the paths of the photos are relative to.
        command: the command that trains what is recommended; "": none is shown.

    Raises:
        DataError: when the file cannot be written.
        MissingExtra: without matplotlib.
    """

    def shown(hits: tuple[tuple[str, str], ...], label: str) -> list[tuple[Picture, str, bool | None]]:
        return [
            (preview(photos / name, name, PREVIEW_SIDE), of, (of == label) if label and of else None)
            for name, of in hits
        ]

    queries = [
        (
            preview(photos / one.query, one.query, PREVIEW_SIDE),
            one.label,
            shown(one.by_floats, one.label),
            shown(one.by_codes, one.label),
        )
        for one in advice.differences
    ]
    page = render(
        "advice/page.html",
        title="Codes for these photos",
        advice=advice,
        command=command,
        summary=summary(advice),
        plots=_plots(advice),
        tables=_by_gallery(advice),
        queries=queries,
    )
    write_atomic(path, page)


def _plots(advice: Advice) -> list[Picture]:
    """Quality against bytes, one plot for each protocol."""
    found, styles = [], {name: style for style, name in enumerate(sorted({cell.method for cell in advice.cells}))}
    for protocol in dict.fromkeys(cell.protocol for cell in advice.cells):
        cells = sorted((cell for cell in advice.cells if cell.protocol == protocol), key=lambda cell: cell.bits)
        lines = {}
        for method in sorted({cell.method for cell in cells}):
            of = [cell for cell in cells if cell.method == method]
            lines[method] = Line([cell.bits / 8 for cell in of], [_percent(cell) for cell in of], style=styles[method])
        ticks = sorted(bits / 8 for bits in LENGTHS)
        if floats := advice.floats.get(protocol):
            name = f"floats ({advice.float_bytes:,} bytes)"
            lines[name] = Line([ticks[0], ticks[-1]], [100 * floats.map] * 2, style=len(styles))
        label = "mAP (%)" if advice.floats else "Share of the floats' 10 nearest (%)"
        chart = line_chart(lines, title_of(protocol), "Bytes a photo", label, ticks=ticks)
        with tempfile.TemporaryDirectory() as folder:
            raw = write_figure(chart, Path(folder) / "plot.png").read_bytes()
        source = f"data:image/png;base64,{base64.b64encode(raw).decode()}"
        found.append(Picture(source, f"Quality against bytes, {title_of(protocol)}"))
    return found


def _by_gallery(advice: Advice) -> dict[str, list[dict[str, object]]]:
    """The rows of each gallery, without its title."""
    found: dict[str, list[dict[str, object]]] = {}
    for row in rows(advice):
        found.setdefault(str(row.pop("gallery")), []).append(row)
    return found


def _percent(cell: Cell) -> float:
    return 100 * (cell.quality.map if cell.quality else cell.neighbours)
