"""Pictures of evaluation records: precision-recall, precision at k, distances of pairs, balance of bits. And plain
charts, for those who have figures of their own.

Figures are made without pyplot, so nothing global is touched and no display is needed.
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

# Okabe & Ito, "Color Universal Design" (2008): told apart with any colour vision; yellow is left out on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", "-.", ":")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
FEW = 7
"""Names that fit into a legend inside the picture."""


def check_matplotlib() -> None:
    """For long work that ends in pictures: fail before it.

    Raises:
        MissingExtra: without matplotlib.
    """
    with optional_extra("plot"):
        import matplotlib  # noqa: F401


@dataclass(frozen=True)
class Line:
    """Points, and half the height of the bar at each, if there are bars."""

    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] = ()
    look: int | None = None
    """Number of its colour, dashes and mark, to look alike in several pictures; None: its place in this one."""


def write_plots(evaluation: Evaluation | Records, folder: Path) -> list[Path]:
    """Draw one evaluation, or several named records side by side, into PNG files in ``folder``.

    Returns:
        The files, in the order: precision_recall.png, precision_at_k.png, distances.png, bit_balance.png.

    Raises:
        MissingExtra: without matplotlib.
        DataError: when there is no record, or the disk rejects.
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
    """Write a picture as PNG.

    Raises:
        DataError: when the disk rejects.
    """
    return write_atomic(path, _png(figure))


def line_chart(
    lines: Mapping[str, Line],
    title: str,
    xlabel: str,
    ylabel: str,
    *,
    ticks: Sequence[float] = (),
    marks: bool = True,
    whole: bool = False,
) -> Figure:
    """Named lines in one picture; ``ticks`` are the only ones of the x axis, where given; else ``whole`` keeps them to
    whole numbers."""
    figure, (axes,) = _figure(1)
    for position, (name, line) in enumerate(lines.items()):
        style = _style(position if line.look is None else line.look)
        if not marks:
            style["marker"] = ""
        if line.spread:
            axes.errorbar(line.x, line.y, line.spread, label=_words(name), markersize=4.5, capsize=2.5, **style)
        else:
            axes.plot(line.x, line.y, label=_words(name), markersize=3.5, **style)
    if ticks:
        axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    elif whole:
        axes.locator_params(axis="x", integer=True)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=_words(title))
    if len(lines) > FEW:
        figure.set_size_inches(10.5, 6)
        figure.legend(loc="outside right upper", fontsize=9)
    else:
        _legend(axes)
    return figure


def bar_chart(bars: Mapping[str, float], title: str, xlabel: str) -> Figure:
    """One bar a name, the first on top; each has its number beside it, for the short ones cannot be read."""
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
    """Precision over recall by Hamming radius, pooled over all pairs; one mark a radius."""
    figure, (axes,) = _figure(1)
    for position, (name, record) in enumerate(records.items()):
        curve = record.pr_curve
        points = [(r, p) for r, p in zip(curve.recall, curve.precision, strict=True) if p is not None]
        recall, precision = zip(*points, strict=True)
        label = f"{_words(name)} (mAP@all {100 * record.map_exact:.1f} %)"
        axes.plot(100 * np.array(recall), 100 * np.array(precision), label=label, markersize=3.5, **_style(position))
    axes.set(xlabel="Recall of same-class pairs (%)", ylabel="Precision (%)", xlim=(-2, 102), ylim=(-2, 104))
    axes.set_title("Precision and recall within a Hamming radius (one mark a radius)")
    _legend(axes)
    return figure


def precision_at_k(records: Records) -> Figure:
    """Expected precision among the first k, on a logarithmic axis of k."""
    figure, (axes,) = _figure(1)
    for position, (name, record) in enumerate(records.items()):
        places, shares = list(record.precision_at), 100 * np.array(list(record.precision_at.values()))
        axes.plot(places, shares, label=_words(name), markersize=5, **_style(position))
    ticks = sorted({k for record in records.values() for k in record.precision_at})
    axes.set_xscale("log")
    axes.set_xticks(ticks, labels=[f"{k:,}" for k in ticks])
    axes.minorticks_off()
    axes.set(xlabel="k, number of first hits", ylabel="Precision@k (%)", ylim=(-2, 104))
    axes.set_title("Share of hits of the query's class, expected over equal distances")
    _legend(axes)
    return figure


def distances(records: Records) -> Figure:
    """Distances of query-gallery pairs, same class against other class; one panel a record."""
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
    """Share of ones in each bit of the gallery's codes; one panel a record."""
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
    """Names come from outside: control characters are written as escapes, and no dollar begins a formula."""
    return printable_lines(text).replace("$", r"\$")


def _style(position: int) -> dict[str, Any]:
    """Colour, line and mark all differ, so that print in grey can be read too; all together differ 28 times."""
    return {
        "color": COLOURS[position % len(COLOURS)],
        "linestyle": LINES[position % len(LINES)],
        "marker": MARKS[(position + position // len(COLOURS)) % len(MARKS)],
    }


def _legend(axes: Axes) -> None:
    axes.legend(frameon=True, framealpha=0.9, fontsize=9)


def _png(figure: Figure) -> bytes:
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=144)
    return raw.getvalue()
