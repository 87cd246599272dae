"""The results of a grid as plots: mAP by code length, precision and recall, losses, time."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

from milvus_fghash.evaluation.plots import Line, bar_chart, line_chart, write_figure
from milvus_fghash.experiments.grid import Results, Variant
from milvus_fghash.experiments.tables import TITLES, galleries

KINDS = ("map", "precision-recall", "loss", "seconds")
"""How file names of plots begin."""


def write_plots(results: Results, folder: Path) -> list[Path]:
    """Draw the recorded results; plots without data are left out, and older plots of the folder that are not among the
    new ones are deleted.

    For each group of variants, each head and each gallery: map-*.png and precision-recall-*.png. For each group and
    head: loss-*.png. For each group: seconds-*.png. Variants without a head are drawn with every head. A variant has
    the same colour and line style in all plots of its group and head.

    Returns:
        The files.

    Raises:
        MissingExtra: without matplotlib.
        DataError: when a file cannot be written.
    """
    files = []
    longest = max(results.spec.bits)
    for group, head, variants in _panels(results):
        for gallery in galleries(results):
            of = f"{TITLES[gallery].lower()}, {_headline(head, group)}"
            if lines := map_by_bits(results, variants, gallery):
                chart = line_chart(
                    lines, f"mAP by code length\n{of}", "Code length (bits)", "mAP@all (%)", ticks=results.spec.bits
                )
                files.append(write_figure(chart, folder / _file("map", group, head, gallery)))
            if lines := precision_recall(results, variants, gallery, longest):
                title = f"Precision and recall within a Hamming radius, {longest} bits, seed 0\n{of}"
                chart = line_chart(lines, title, "Recall of same-class pairs (%)", "Precision (%)")
                files.append(write_figure(chart, folder / _file("precision-recall", group, head, gallery)))
        if lines := losses(results, variants, longest):
            title = f"Training loss, {longest} bits, seed 0\n{_headline(head, group)}"
            label = "Loss relative to the first round (%)"
            chart = line_chart(lines, title, "Round", label, markers=False, integer_ticks=True)
            files.append(write_figure(chart, folder / _file("loss", group, head)))
    for group in _groups(results):
        if bars := seconds(results, group, longest):
            title = f"Training time, {longest} bits, mean over seeds\n{group}".rstrip()
            files.append(write_figure(bar_chart(bars, title, "Seconds"), folder / _file("seconds", group)))
    for older in {file for kind in KINDS for file in folder.glob(f"{kind}*.png")} - set(files):
        older.unlink()
    return files


def map_by_bits(results: Results, variants: list[Variant], gallery: str) -> dict[str, Line]:
    """mAP in percent at each code length: mean, and sample standard deviation of several seeds. Without a point where a
    seed failed, as in the table."""
    lines = {}
    for style, variant in enumerate(variants):
        points = []
        for bits in results.spec.bits:
            records = results.records(gallery, variant, bits)
            values = [100 * score.map_exact for record in records if (score := record.score(gallery))]
            if values and not any(record.failed for record in records):
                points.append((bits, statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0))
        if points:
            x, y, spread = zip(*points, strict=True)
            lines[variant.label] = Line(x, y, spread if results.spec.n_seeds > 1 else (), style)
    return lines


def precision_recall(results: Results, variants: list[Variant], gallery: str, bits: int) -> dict[str, Line]:
    """Precision and recall of seed 0 in percent, one point per Hamming radius."""
    lines = {}
    for style, variant in enumerate(variants):
        record = next((one.cells.get((variant, bits, 0)) for one in results.of(gallery)), None)
        score = record.score(gallery) if record else None
        if score:
            curve = score.pr_curve
            points = [(100 * r, 100 * p) for r, p in zip(curve.recall, curve.precision, strict=True) if p is not None]
            x, y = zip(*points, strict=True)
            lines[f"{variant.label} (mAP {100 * score.map_exact:.1f} %)"] = Line(x, y, style=style)
    return lines


def losses(results: Results, variants: list[Variant], bits: int) -> dict[str, Line]:
    """The sum of the loss terms of seed 0 after each round, in percent of the first round's sum: losses of different
    methods have different scales."""
    lines = {}
    for style, variant in enumerate(variants):
        record = results.all_fits[0].cells.get((variant, bits, 0))
        if record and record.curve:
            sums = [sum(terms) for terms in zip(*record.curve.values(), strict=True)]
            if sums[0] and len(sums) > 1:  # a single round makes no line
                rounds = range(1, len(sums) + 1)
                lines[variant.label] = Line(rounds, [100 * value / abs(sums[0]) for value in sums], style=style)
    return lines


def seconds(results: Results, group: str, bits: int) -> dict[str, float]:
    """Mean training time of each variant; of its rounds, where the method has rounds."""
    bars = {}
    for variant in results.spec.variants:
        times = [record.seconds for record in results.all_fits[0].seeds(variant, bits) if not record.failed]
        if variant.group == group and times:
            bars[f"{variant.label}, {variant.head}" if variant.head else variant.label] = statistics.mean(times)
    return bars


def _panels(results: Results) -> Iterator[tuple[str, str | None, list[Variant]]]:
    """(group, head, variants); variants without a head are in every panel of their group."""
    for group in _groups(results):
        variants = [variant for variant in results.spec.variants if variant.group == group]
        for head in dict.fromkeys(variant.head for variant in variants if variant.head) or (None,):
            yield group, head, [variant for variant in variants if variant.head in (head, None)]


def _groups(results: Results) -> Mapping[str, None]:
    return dict.fromkeys(variant.group for variant in results.spec.variants)


def _headline(head: str | None, group: str) -> str:
    return ", ".join(part for part in (f"{head} head" if head else "", group.lower()) if part)


def _file(*parts: str | None) -> str:
    words = [re.sub(r"\W+", "-", part.lower()) for part in parts if part]
    return "-".join(words) + ".png"
