"""A grid's results as pictures: mAP by code length, precision and recall, losses, time."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

from milvus_fghash.evaluation.plots import Line, bar_chart, line_chart, write_figure
from milvus_fghash.evaluation.record import GalleryKind
from milvus_fghash.experiments.grid import Results, Row
from milvus_fghash.experiments.tables import GALLERIES


def write_plots(results: Results, folder: Path) -> list[Path]:
    """Draw what the records hold; a picture without any line is left out.

    For each group of rows, each head and each gallery: map-*.png and precision-recall-*.png. For each group and head:
    loss-*.png. For each group: seconds-*.png. Rows without a head stand in the pictures of every head. A row looks
    alike in all pictures of its group and head.

    Raises:
        MissingExtra: without matplotlib.
        DataError: when the disk rejects.
    """
    files = []
    longest = max(results.plan.bits)
    for group, head, rows in _panels(results):
        for gallery in GALLERIES:
            of = f"{gallery} gallery, {_headline(head, group)}"
            if lines := map_by_bits(results, rows, gallery):
                chart = line_chart(
                    lines, f"mAP by code length\n{of}", "Code length (bits)", "mAP@all (%)", ticks=results.plan.bits
                )
                files.append(write_figure(chart, folder / _file("map", group, head, gallery)))
            if lines := precision_recall(results, rows, gallery, longest):
                title = f"Precision and recall within a Hamming radius, {longest} bits, seed 0\n{of}"
                chart = line_chart(lines, title, "Recall of same-class pairs (%)", "Precision (%)")
                files.append(write_figure(chart, folder / _file("precision-recall", group, head, gallery)))
        if lines := losses(results, rows, longest):
            title = f"Loss by round, {longest} bits, seed 0\n{_headline(head, group)}"
            chart = line_chart(
                lines, title, "Round", "Sum of the terms, share of the first round's (%)", marks=False, whole=True
            )
            files.append(write_figure(chart, folder / _file("loss", group, head)))
    for group in _groups(results):
        if bars := seconds(results, group, longest):
            of = "the rounds (of all, where there are none)"
            title = f"Seconds of {of}, {longest} bits, mean over seeds\n{group}".rstrip()
            files.append(write_figure(bar_chart(bars, title, "Seconds"), folder / _file("seconds", group)))
    return files


def drawn_before(folder: Path) -> set[Path]:
    """Pictures in a folder that have the name of one of these."""
    return {file for kind in ("map", "precision-recall", "loss", "seconds") for file in folder.glob(f"{kind}*.png")}


def map_by_bits(results: Results, rows: list[Row], gallery: GalleryKind) -> dict[str, Line]:
    """mAP in percent at each code length; mean, and sample standard deviation where there are several seeds. Where one
    failed there is no point, as there is no figure in the table."""
    lines = {}
    for look, row in enumerate(rows):
        points = []
        for bits in results.plan.bits:
            records = results.seeds(row, bits)
            values = [100 * score.map_exact for record in records if (score := record.score(gallery))]
            if values and not any(record.failed for record in records):
                points.append((bits, statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0))
        if points:
            x, y, spread = zip(*points, strict=True)
            lines[row.label] = Line(x, y, spread if results.plan.n_seeds > 1 else (), look)
    return lines


def precision_recall(results: Results, rows: list[Row], gallery: GalleryKind, bits: int) -> dict[str, Line]:
    """Of seed 0, one point a radius, in percent."""
    lines = {}
    for look, row in enumerate(rows):
        record = results.cells.get((row, bits, 0))
        score = record.score(gallery) if record else None
        if score:
            curve = score.pr_curve
            points = [(100 * r, 100 * p) for r, p in zip(curve.recall, curve.precision, strict=True) if p is not None]
            x, y = zip(*points, strict=True)
            lines[f"{row.label} (mAP {100 * score.map_exact:.1f} %)"] = Line(x, y, look=look)
    return lines


def losses(results: Results, rows: list[Row], bits: int) -> dict[str, Line]:
    """Of seed 0: the sum of the terms after each round, in percent of the first round's. Losses of different methods
    have different scales; how they fall can be compared, how large they are cannot."""
    lines = {}
    for look, row in enumerate(rows):
        record = results.cells.get((row, bits, 0))
        if record and record.curve:
            sums = [sum(terms) for terms in zip(*record.curve.values(), strict=True)]
            if sums[0] and len(sums) > 1:  # of one round there is nothing to be seen
                rounds = range(1, len(sums) + 1)
                lines[row.label] = Line(rounds, [100 * value / abs(sums[0]) for value in sums], look=look)
    return lines


def seconds(results: Results, group: str, bits: int) -> dict[str, float]:
    """Mean time of a training, by row."""
    bars = {}
    for row in results.plan.rows:
        taken = [record.seconds for record in results.seeds(row, bits) if not record.failed]
        if row.group == group and taken:
            bars[f"{row.label}, {row.head}" if row.head else row.label] = statistics.mean(taken)
    return bars


def _panels(results: Results) -> Iterator[tuple[str, str | None, list[Row]]]:
    """(group, head, rows), rows without a head in each."""
    for group in _groups(results):
        rows = [row for row in results.plan.rows if row.group == group]
        for head in dict.fromkeys(row.head for row in rows if row.head) or (None,):
            yield group, head, [row for row in rows if row.head in (head, None)]


def _groups(results: Results) -> Mapping[str, None]:
    return dict.fromkeys(row.group for row in results.plan.rows)


def _headline(head: str | None, group: str) -> str:
    return ", ".join(part for part in (f"{head} head" if head else "", group.lower()) if part)


def _file(*parts: str | None) -> str:
    words = [re.sub(r"\W+", "-", part.lower()) for part in parts if part]
    return "-".join(words) + ".png"
