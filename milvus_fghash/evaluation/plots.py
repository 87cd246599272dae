"""Plots of evaluation records (precision-recall, precision at k, distances, bit balance), and general charts.

Figures are made without pyplot, which has global state and may need a display.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.core.untrusted_text import printable_lines
from milvus_fghash.errors import DataError, optional_extra
from milvus_fghash.evaluation.record import Evaluation, EvaluationRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Records = Mapping[str, EvaluationRecord]

# Okabe & Ito, "Color Universal Design" (2008): distinguishable with any colour vision; without yellow, on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MAX_NAMES_IN_AXES = 7
"""A legend of more names is placed outside the axes."""


def check_matplotlib() -> None:
    """Fail before a long computation whose results are to be plotted.

    Raises:
        MissingExtra: without matplotlib.
    """
    with optional_extra("plot"):
        import matplotlib  # noqa: F401


@dataclass(frozen=True)
class Line:
    """A line of `line_chart`.

    Attributes:
        x, y: its points.
        spread: half the height of the error bar at each point; empty for none.
        style: number of its colour, dashes and marker, to be equal in several charts; None: its index in this one.
    """

    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] = ()
    style: int | None = None


def write_plots(evaluation: Evaluation | Records, folder: Path) -> list[Path]:
    """Plot one evaluation, or several named records together, to PNG files in ``folder``.

    Returns:
        The files, in the order: precision_recall.png, precision_at_k.png, distances.png, bit_balance.png.

    Raises:
        MissingExtra: without matplotlib.
        DataError: when there is no record, or a file cannot be written.
    """
    records = evaluation.records if isinstance(evaluation, Evaluation) else evaluation
    if not records:
        raise DataError("there is no evaluation record to plot")
    drawings: dict[str, Callable[[Records], Figure]] = {
        "precision_recall.png": precision_recall,
        "precision_at_k.png": precision_at_k,
        "distances.png": distances,
        "bit_balance.png": bit_balance,
    }
    return [write_figure(draw(records), Path(folder) / name) for name, draw in drawings.items()]


def write_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG.

    Raises:
        DataError: when the file cannot be written.
    """
    return write_atomic(path, _png(figure))


def line_chart(
    lines: Mapping[str, Line],
    title: str,
    xlabel: str,
    ylabel: str,
    *,
    ticks: Sequence[float] = (),
    markers: bool = True,
    integer_ticks: bool = False,
) -> Figure:
    """Named lines in one chart.

    Args:
        ticks: all ticks of the x axis; empty: chosen automatically.
        markers: draw a marker at each point.
        integer_ticks: place automatic ticks of the x axis at integers only.
    """
    figure, (axes,) = _figure(1)
    for position, (name, line) in enumerate(lines.items()):
        style = _style(position if line.style is None else line.style)
        if not markers:
            style["marker"] = ""
        if line.spread:
            axes.errorbar(line.x, line.y, line.spread, label=_words(name), markersize=4.5, capsize=2.5, **style)
        else:
            axes.plot(line.x, line.y, label=_words(name), markersize=3.5, **style)
    if ticks:
        axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    elif integer_ticks:
        axes.locator_params(axis="x", integer=True)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=_words(title))
    if len(lines) > MAX_NAMES_IN_AXES:
        figure.set_size_inches(10.5, 6)
        figure.legend(loc="outside right upper", fontsize=9)
    else:
        _legend(axes)
    return figure


def bar_chart(bars: Mapping[str, float], title: str, xlabel: str) -> Figure:
    """One bar per name, the first on top, each labelled with its value, since short bars cannot be read."""
    figure, (axes,) = _figure(1)
    figure.set_size_inches(8, 1.5 + 0.3 * len(bars))
    axes.grid(visible=False, axis="y")
    drawn = axes.barh(list(map(_words, bars)), list(bars.values()), color=COLOURS[0])
    axes.bar_label(drawn, fmt="%.3g", padding=3, fontsize=9)
    axes.margins(x=0.12, y=0.02)
    axes.invert_yaxis()
    axes.set(xlabel=xlabel, title=_words(title))
    return figure


def precision_recall(records: Records) -> Figure:
    """Precision over recall by Hamming radius, pooled over all pairs; one marker per radius."""
    figure, (axes,) = _figure(1)
    for position, (name, record) in enumerate(records.items()):
        curve = record.pr_curve
        points = [(r, p) for r, p in zip(curve.recall, curve.precision, strict=True) if p is not None]
        recall, precision = zip(*points, strict=True)
        label = f"{_words(name)} (mAP@all {100 * record.map_exact:.1f} %)"
        axes.plot(100 * np.array(recall), 100 * np.array(precision), label=label, markersize=3.5, **_style(position))
    axes.set(xlabel="Recall of same-class pairs (%)", ylabel="Precision (%)", xlim=(-2, 102), ylim=(-2, 104))
    axes.set_title("Precision and recall within a Hamming radius (one marker per radius)")
    _legend(axes)
    return figure


def precision_at_k(records: Records) -> Figure:
    """Expected precision among the first k, on a logarithmic axis of k."""
    figure, (axes,) = _figure(1)
    for position, (name, record) in enumerate(records.items()):
        cutoffs, shares = list(record.precision_at), 100 * np.array(list(record.precision_at.values()))
        axes.plot(cutoffs, shares, label=_words(name), markersize=5, **_style(position))
    ticks = sorted({k for record in records.values() for k in record.precision_at})
    axes.set_xscale("log")
    axes.set_xticks(ticks, labels=[f"{k:,}" for k in ticks])
    axes.minorticks_off()
    axes.set(xlabel="k, number of first hits", ylabel="Precision@k (%)", ylim=(-2, 104))
    axes.set_title("Share of hits of the query's class, expected over equal distances")
    _legend(axes)
    return figure


def distances(records: Records) -> Figure:
    """Distances of query-gallery pairs, same class against other class; one panel per record."""
    figure, panels = _figure(len(records))
    for axes, (name, record) in zip(panels, records.items(), strict=True):
        radii = np.arange(record.bits + 1)
        for counts, label, colour, hatch in (
            (record.other_class_distances, "other class", COLOURS[1], ""),
            (record.same_class_distances, "same class", COLOURS[0], "//"),
        ):
            shares = 100 * np.array(counts) / max(sum(counts), 1)
            axes.bar(radii, shares, width=0.9, label=label, color=colour, alpha=0.6, hatch=hatch, edgecolor="white")
        axes.set(
            xlabel="Hamming distance (bits)",
            ylabel="Pairs of each kind (%)",
            xlim=(-0.7, record.bits + 0.7),
            title=_words(name),
        )
        _legend(axes)
    return figure


def bit_balance(records: Records) -> Figure:
    """Fraction of ones in each bit of the gallery's codes; one panel per record."""
    figure, panels = _figure(len(records))
    for axes, (name, record) in zip(panels, records.items(), strict=True):
        health = record.gallery_health
        axes.bar(np.arange(record.bits), 100 * np.array(health.bit_balance), width=0.8, color=COLOURS[0])
        axes.axhline(50, color=COLOURS[6], linewidth=1, linestyle="--", label="balanced (50 %)")
        axes.set(xlabel="Bit", ylabel="Ones in the gallery (%)", xlim=(-0.7, record.bits - 0.3), ylim=(0, 104))
        axes.set_title(f"{_words(name)}: {health.distinct_codes:,} distinct codes of {health.n_codes:,}")
        _legend(axes)
    return figure


def _figure(rows: int) -> tuple[Figure, list[Axes]]:
    with optional_extra("plot"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(figsize=(8, 5 if rows == 1 else 3.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, squeeze=False)
    for axes in panels.flat:
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(panels.flat)


def _words(text: str) -> str:
    """A name from outside: control characters are written as escapes, and dollars do not begin a formula."""
    return printable_lines(text).replace("$", r"\$")


def _style(position: int) -> dict[str, Any]:
    """Colour, dashes and marker differ, so that greyscale prints are legible; 28 combinations are distinct."""
    return {
        "color": COLOURS[position % len(COLOURS)],
        "linestyle": LINES[position % len(LINES)],
        "marker": MARKERS[(position + position // len(COLOURS)) % len(MARKERS)],
    }


def _legend(axes: Axes) -> None:
    axes.legend(frameon=True, framealpha=0.9, fontsize=9)


def _png(figure: Figure) -> bytes:
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=144)
    return raw.getvalue()
