"""The results of a grid as Markdown, as CSV, and as plain values.

Tables show mean and sample standard deviation over the seeds. Each gallery has tables of its own: new photos first, as
only these tell how a growing catalog is searched, then the training photos, encoded and learned.
A dash means that a method has no learned gallery. The Markdown holds no date and no duration: the same cells always
give the same text.
"""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.core.untrusted_text import csv_cell, printable_lines
from milvus_fghash.evaluation.record import RELEVANCE
from milvus_fghash.experiments.grid import Results, Variant
from milvus_fghash.experiments.learning_rates import rate_factors
from milvus_fghash.experiments.records import Gallery, Record

DASH = "–"
GALLERIES: tuple[Gallery, ...] = ("new", "new_classes", "encoded", "learned")
GALLERY_TITLES = {
    "new": "New photos (B)",
    "new_classes": "New classes (C)",
    "encoded": "Encoded gallery",
    "learned": "Learned gallery",
}
LATER_GALLERIES = ("new", "new_classes")
"""Left out of the tables where no record has them; a cell has mAP and precision at 1."""
GALLERY_NOTES = {
    "new": "Each photo of the query split is a query against all others of this split. Training saw none of them, but "
    "other photos of their classes (protocol B). mAP / precision at 1.",
    "new_classes": "The gallery is the photos of the training split whose classes were kept out of training; the "
    "queries are the photos of these classes in the query split (protocol C). mAP / precision at 1.",
    "encoded": "The gallery is the training photos (protocol A), with the codes that the network computes. Training "
    "has seen their labels: these figures do not tell how well new photos (B) or new classes (C) are found.",
    "learned": "The gallery holds codes optimised with the labels of the gallery photos. V (in SDH: B): one code per "
    f"photo; class codes: one code per class; {DASH}: the method has no learned codes.",
}
CSV_COLUMNS = (
    "group", "label", "method", "head", "bits", "seed", "source", "map", "map_sorted", "precision_at_1",
    "precision_at_10", "reach",
    "learning_rate", "seconds", "failed",
)  # fmt: skip


def markdown(results: Results, title: str, notes: Sequence[str] = ()) -> str:
    """The document: a table for each gallery and group, notes, failures, and the learning-rate trials."""
    parts = [f"# {title}", _introduction(results)]
    for gallery in GALLERIES:
        if gallery in LATER_GALLERIES and not any(one.score(gallery) for one in results.cells.values()):
            continue
        parts.append(f"## {GALLERY_TITLES[gallery]}")
        parts.append(GALLERY_NOTES[gallery])
        for group in dict.fromkeys(variant.group for variant in results.spec.variants):
            if group:
                parts.append(f"### {group}")
            parts.append(gallery_table(results, gallery, group))
        parts += _ceiling(results, gallery)
    if complete := [variant.label for variant in results.spec.variants if variant.group and not variant.changes]:
        parts.append(f"The complete method of the recipe: {', '.join(dict.fromkeys(complete))}.")
    parts += notes
    failed = [f"- {record.name}: {record.failed}" for record in _distinct(results) if record.failed]
    failed += [
        f"- {variant.name} at {bits} bits: all learning rates failed"
        for variant, bits in results.trials
        if results.all_trials_failed(variant, bits)
    ]
    if failed:
        parts.append("## Failed\n\n" + "\n".join(failed))
    if results.trials:
        parts.append("## Learning-rate trials\n\n" + trial_table(results))
    return printable_lines("\n\n".join(parts) + "\n")


def gallery_table(results: Results, gallery: Gallery, group: str = "") -> str:
    """Variants by code lengths, for one gallery."""
    spec = results.spec
    variants = [variant for variant in spec.variants if variant.group == group]
    learned = ["codes from"] if gallery == "learned" else []
    lines = [["variant" if group else "method", "head", *learned, *(f"{bits} bits" for bits in spec.bits)]]
    for variant in variants:
        source = [_source(results, variant)] if learned else []
        cells = [
            "failed"
            if results.all_trials_failed(variant, bits)
            else _cell(results.seeds(variant, bits), spec.n_seeds, gallery)
            for bits in spec.bits
        ]
        lines.append([variant.label, variant.head or DASH, *source, *cells])
    return _table(lines)


def _ceiling(results: Results, gallery: Gallery) -> list[str]:
    """What the cosine of the features reaches that the codes were made of, each line once.

    There may be several: some methods pool the maps in their own way, and two runtimes differ in rounding.
    """
    scores = [score for record in results.cells.values() if (score := record.score(gallery))]
    lines = (
        f"Floats of the same features, by cosine: mAP {floats.map:.3f}, precision at 1 {floats.precision_at_1:.3f}, at "
        f"10 {floats.precision_at_10:.3f}, reach {floats.reach:.2f}."
        for score in scores
        if (floats := score.floats)
    )
    return list(dict.fromkeys(lines))


def trial_table(results: Results) -> str:
    """The learning-rate trials: mAP on held-out training photos, the best in bold."""
    tried = rate_factors(results.spec.trials)
    lines = [["method", "head", "bits", "recipe's rate", *(f"x {factor:.3g}" for factor in tried), "chosen"]]
    for (variant, bits), trials in results.trials.items():
        best = results.rate_factor(variant, bits)
        cells = [_trial(trials.get(factor), factor == best) for factor in tried]
        middle = f"{trials[1.0].learning_rate:.3g}" if 1.0 in trials else DASH
        chosen = f"{trials[best].learning_rate:.3g}" if best in trials else DASH
        lines.append([variant.label, variant.head or DASH, str(bits), middle, *cells, chosen])
    text = (
        "mAP of the encoded gallery after the last round, seed 0. The queries are training photos, held out class by "
        "class."
    )
    if results.spec.trial_bits:
        text += " Other code lengths use the best factor of the nearest length listed here."
    return f"{text}\n\n{_table(lines)}"


def summary(results: Results, gallery: Gallery) -> list[dict[str, Any]]:
    """One entry for each variant and code length: the mAP of each seed; mean and deviation, unless a seed failed."""
    entries = []
    for variant in results.spec.variants:
        for bits in results.spec.bits:
            records = results.seeds(variant, bits)
            scores = [score for record in records if (score := record.score(gallery))]
            values = [score.map_exact for score in scores]
            failed = sum(record.failed is not None for record in records)
            complete = bool(values) and not failed
            seconds = [record.seconds for record in records if not record.failed]
            entries.append(
                {
                    **_keys(variant),
                    "bits": bits,
                    "source": scores[0].source if scores else None,
                    "mean": statistics.mean(values) if complete else None,
                    "deviation": statistics.stdev(values) if complete and len(values) > 1 else None,
                    "seeds": values,
                    "failed": failed,
                    "precision_at_1": statistics.mean(score.precision_at[1] for score in scores) if complete else None,
                    "precision_at_10": _mean([score.precision_at.get(10) for score in scores]) if complete else None,
                    "reach": _mean([score.reach for score in scores]) if complete else None,
                    "floats": next((score.floats.model_dump() for score in scores if score.floats), None),
                    "seconds": statistics.mean(seconds) if seconds else None,
                }
            )
    return entries


def long_csv(results: Results, gallery: Gallery) -> str:
    """One line for each cell that has this gallery, or failed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for (variant, bits, seed), record in results.cells.items():
        score = record.score(gallery)
        if score is None and not record.failed:
            continue
        figures: tuple[object, ...] = ("",) * 6
        if score:
            more = (score.precision_at.get(10, ""), "" if score.reach is None else score.reach)
            figures = (score.source, score.map_exact, score.map_sorted, score.precision_at[1], *more)
        known = (variant.group, variant.label, variant.method, variant.head or "", bits, seed)
        rate = record.learning_rate if record.curve else ""
        writer.writerow(map(csv_cell, (*known, *figures, rate, f"{record.seconds:.2f}", record.failed or "")))
    return text.getvalue()


def document(results: Results, title: str, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Everything except curves and recipes, which are in cells.jsonl, as one JSON document."""
    spec = results.spec
    absent = [cell for cell in spec.cells() if cell not in results.cells]
    all_trials_failed = sum(results.all_trials_failed(variant, bits) for variant, bits, _ in absent)
    return {
        "title": title,
        "setting": spec.setting,
        "changes": spec.changes,
        "bits": spec.bits,
        "seeds": spec.n_seeds,
        "missing": len(absent) - all_trials_failed,
        "failed": all_trials_failed + sum(record.failed is not None for record in results.cells.values()),
        "notes": list(notes),
        "tables": {gallery: summary(results, gallery) for gallery in GALLERIES},
        "trials": [
            {
                **_keys(variant),
                "bits": bits,
                "factor": factor,
                "learning_rate": record.learning_rate,
                "map": record.encoded.map_exact if record.encoded else None,
                "failed": record.failed,
                "chosen": factor == results.rate_factor(variant, bits),
            }
            for (variant, bits), trials in results.trials.items()
            for factor, record in sorted(trials.items())
        ],
        "cells": [
            record.model_dump(mode="json", exclude={"curve": True, "identity": {"recipe"}})
            for record in _distinct(results)
        ],
    }


def write_tables(results: Results, out: Path, title: str, notes: Sequence[str] = ()) -> list[Path]:
    """Write table.md, a table-GALLERY.csv for each gallery, and results.json.

    Returns:
        The files.

    Raises:
        DataError: when a file cannot be written.
    """
    values = json.dumps(document(results, title, notes), indent=1, ensure_ascii=False, allow_nan=False)
    return [
        write_atomic(out / "table.md", markdown(results, title, notes).encode()),
        *(write_atomic(out / f"table-{gallery}.csv", long_csv(results, gallery).encode()) for gallery in GALLERIES),
        write_atomic(out / "results.json", (values + "\n").encode()),
    ]


def _distinct(results: Results) -> list[Record]:
    """Variants of several groups may share a cell."""
    return list({record.name: record for record in results.cells.values()}.values())


def _introduction(results: Results) -> str:
    spec = results.spec
    seeds = f"mean ± sample standard deviation over {spec.n_seeds} seeds" if spec.n_seeds > 1 else "one seed"
    text = f"mAP@all from 0 to 1, the exact expectation over tied distances; {seeds}."
    if record := next(iter(results.cells.values()), None):
        text += f" {record.n_queries:,} queries, {record.n_gallery:,} photos in the gallery."
        if record.relevance != RELEVANCE:
            text += f" {record.relevance[0].upper()}{record.relevance[1:]}."
    if changes := [change for change in spec.changes if not change.startswith(("backbone.weights=", "trunk.weights="))]:
        text += f" Changed in every recipe: {', '.join(f'`{change}`' for change in changes)}."
    return text


def _cell(records: Sequence[Record], n_seeds: int, gallery: Gallery) -> str:
    """``mean ± deviation``, or a note when seeds are missing or failed."""
    if any(record.failed for record in records):
        return "failed"
    if not records:
        return "not run"
    values = [score.map_exact for record in records if (score := record.score(gallery))]
    if not values:
        return DASH
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    if gallery in LATER_GALLERIES:
        first = [score.precision_at[1] for record in records if (score := record.score(gallery))]
        spread += f" / {statistics.mean(first):.3f}"
    share = f" ({len(records)} of {n_seeds})" if len(records) < n_seeds else ""
    return f"{statistics.mean(values):.3f}{spread}{share}"


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where a value was not measured."""
    there = [value for value in values if value is not None]
    return statistics.mean(there) if there and len(there) == len(values) else None


def _source(results: Results, variant: Variant) -> str:
    records = (record for (of, _, _), record in results.cells.items() if of == variant)
    return next((record.learned.source for record in records if record.learned), DASH)


def _trial(record: Record | None, chosen: bool) -> str:
    if record is None:
        return "not run"
    if record.encoded is None:
        return "failed"
    return f"**{record.encoded.map_exact:.3f}**" if chosen else f"{record.encoded.map_exact:.3f}"


def _keys(variant: Variant) -> dict[str, Any]:
    return {
        "group": variant.group,
        "label": variant.label,
        "method": variant.method,
        "head": variant.head,
        "changes": variant.changes,
    }


def _table(lines: Sequence[Sequence[str]]) -> str:
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([rows[0], "|" + "---|" * len(lines[0]), *rows[1:]])
