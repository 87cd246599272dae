"""A grid's results as Markdown, as CSV, and as plain values. Pure functions of the records.

Mean and sample standard deviation over seeds. The encoded and the learned gallery are tables of their own, never one. A
dash stands where a method has no learned gallery. No date and no duration stands in the Markdown: the same cells always
give the same text.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from milvus_fghash.core.untrusted_text import csv_cell, printable_lines
from milvus_fghash.evaluation.record import GalleryKind
from milvus_fghash.experiments.grid import Results, Row
from milvus_fghash.experiments.learning_rates import factors
from milvus_fghash.experiments.records import Record

DASH = "–"
GALLERIES: tuple[GalleryKind, ...] = ("encoded", "learned")
EXPLAINED = {
    "encoded": "Gallery: the network's codes of the training photos. Only this says how photos are found that nobody "
    "has labelled.",
    "learned": "Gallery: codes that training made with the labels of the gallery photos at hand (V, or SDH's B: "
    f"solved for each photo; class codes: one for each class). {DASH}: the method has none.",
}
CSV_COLUMNS = (
    "group", "label", "method", "head", "bits", "seed", "source", "map", "map_sorted", "precision_at_1",
    "learning_rate", "seconds", "failed",
)  # fmt: skip


def markdown(results: Results, title: str, notes: Sequence[str] = ()) -> str:
    """The document: a table for each gallery (of each group of rows), notes, and the learning rates tried."""
    parts = [f"# {title}", _head_line(results)]
    for gallery in GALLERIES:
        parts.append(f"## {gallery.capitalize()} gallery")
        parts.append(EXPLAINED[gallery])
        for group in dict.fromkeys(row.group for row in results.plan.rows):
            if group:
                parts.append(f"### {group}")
            parts.append(gallery_table(results, gallery, group))
    if whole := [row.label for row in results.plan.rows if row.group and not row.changes]:
        parts.append(f"The whole method, as its recipe has it: {', '.join(dict.fromkeys(whole))}.")
    parts += notes
    failed = [f"- {record.name}: {record.failed}" for record in _distinct(results) if record.failed]
    failed += [
        f"- {row.name} at {bits} bits: every learning rate failed"
        for row, bits in results.trials
        if results.hopeless(row, bits)
    ]
    if failed:
        parts.append("## Failed\n\n" + "\n".join(failed))
    if results.trials:
        parts.append("## Learning rates\n\n" + trial_table(results))
    return printable_lines("\n\n".join(parts) + "\n")


def gallery_table(results: Results, gallery: GalleryKind, group: str = "") -> str:
    """Rows against code lengths; one gallery."""
    plan = results.plan
    rows = [row for row in plan.rows if row.group == group]
    learned = ["codes from"] if gallery == "learned" else []
    lines = [["variant" if group else "method", "head", *learned, *(f"{bits} bits" for bits in plan.bits)]]
    for row in rows:
        source = [_source(results, row)] if learned else []
        cells = [
            "failed" if results.hopeless(row, bits) else _cell(results.seeds(row, bits), plan.n_seeds, gallery)
            for bits in plan.bits
        ]
        lines.append([row.label, row.head or DASH, *source, *cells])
    return _table(lines)


def trial_table(results: Results) -> str:
    """The log of the learning-rate trials: mAP on held-out training photos, the winner in bold."""
    tried = factors(results.plan.trials)
    lines = [["method", "head", "bits", "recipe's rate", *(f"x {factor:.3g}" for factor in tried), "chosen"]]
    for (row, bits), trials in results.trials.items():
        best = results.factor(row, bits)
        cells = [_trial(trials.get(factor), factor == best) for factor in tried]
        middle = f"{trials[1.0].learning_rate:.3g}" if 1.0 in trials else DASH
        chosen = f"{trials[best].learning_rate:.3g}" if best in trials else DASH
        lines.append([row.label, row.head or DASH, str(bits), middle, *cells, chosen])
    words = "mAP of the encoded gallery for training photos held out by class, after the last round, seed 0." + (
        " At other code lengths the factor of the nearest of these counts." if results.plan.trial_bits else ""
    )
    return f"{words}\n\n{_table(lines)}"


def summary(results: Results, gallery: GalleryKind) -> list[dict[str, Any]]:
    """One entry for each row and code length: each seed's mAP; mean and deviation, unless a seed failed."""
    entries = []
    for row in results.plan.rows:
        for bits in results.plan.bits:
            records = results.seeds(row, bits)
            scores = [score for record in records if (score := record.score(gallery))]
            values = [score.map_exact for score in scores]
            failed = sum(record.failed is not None for record in records)
            whole = bool(values) and not failed
            taken = [record.seconds for record in records if not record.failed]
            entries.append(
                {
                    **_named(row),
                    "bits": bits,
                    "source": scores[0].source if scores else None,
                    "mean": statistics.mean(values) if whole else None,
                    "deviation": statistics.stdev(values) if whole and len(values) > 1 else None,
                    "seeds": values,
                    "failed": failed,
                    "precision_at_1": statistics.mean(score.precision_at[1] for score in scores) if whole else None,
                    "seconds": statistics.mean(taken) if taken else None,
                }
            )
    return entries


def long_csv(results: Results, gallery: GalleryKind) -> str:
    """One line for each cell that has the gallery, or failed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for (row, bits, seed), record in results.cells.items():
        score = record.score(gallery)
        if score is None and not record.failed:
            continue
        figures = (score.source, score.map_exact, score.map_sorted, score.precision_at[1]) if score else ("",) * 4
        known = (row.group, row.label, row.method, row.head or "", bits, seed)
        rate = record.learning_rate if record.curve else ""
        writer.writerow(map(csv_cell, (*known, *figures, rate, f"{record.seconds:.2f}", record.failed or "")))
    return text.getvalue()


def document(results: Results, title: str, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Everything but the curves, as one JSON document; curves and recipes stand in cells.jsonl."""
    plan = results.plan
    absent = [cell for cell in plan.cells() if cell not in results.cells]
    hopeless = sum(results.hopeless(row, bits) for row, bits, _ in absent)
    return {
        "title": title,
        "setting": plan.setting,
        "changes": plan.changes,
        "bits": plan.bits,
        "seeds": plan.n_seeds,
        "missing": len(absent) - hopeless,
        "failed": hopeless + sum(record.failed is not None for record in results.cells.values()),
        "notes": list(notes),
        "tables": {gallery: summary(results, gallery) for gallery in GALLERIES},
        "trials": [
            {
                **_named(row),
                "bits": bits,
                "factor": factor,
                "learning_rate": record.learning_rate,
                "map": record.encoded.map_exact if record.encoded else None,
                "failed": record.failed,
                "chosen": factor == results.factor(row, bits),
            }
            for (row, bits), trials in results.trials.items()
            for factor, record in sorted(trials.items())
        ],
        "cells": [
            record.model_dump(mode="json", exclude={"curve": True, "identity": {"recipe"}})
            for record in _distinct(results)
        ],
    }


def _distinct(results: Results) -> list[Record]:
    """Rows of several groups may share a cell."""
    return list({record.name: record for record in results.cells.values()}.values())


def _head_line(results: Results) -> str:
    plan = results.plan
    seeds = f"mean ± sample standard deviation over {plan.n_seeds} seeds" if plan.n_seeds > 1 else "one seed"
    line = f"mAP@all, the exact expectation over ties, 1 = all right; {seeds}."
    some = next(iter(results.cells.values()), None)
    if some:
        line += f" {some.n_queries:,} queries, {some.n_gallery:,} photos in the gallery."
    if changes := [change for change in plan.changes if not change.startswith("trunk.weights=")]:
        line += f" Changed in every recipe: {', '.join(f'`{change}`' for change in changes)}."
    return line


def _cell(records: Sequence[Record], n_seeds: int, gallery: GalleryKind) -> str:
    """``mean ± deviation``; says so where seeds are missing or failed."""
    if any(record.failed for record in records):
        return "failed"
    if not records:
        return "not run"
    values = [score.map_exact for record in records if (score := record.score(gallery))]
    if not values:
        return DASH
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    share = f" ({len(records)} of {n_seeds})" if len(records) < n_seeds else ""
    return f"{statistics.mean(values):.3f}{spread}{share}"


def _source(results: Results, row: Row) -> str:
    records = (record for (of, _, _), record in results.cells.items() if of == row)
    return next((record.learned.source for record in records if record.learned), DASH)


def _trial(record: Record | None, chosen: bool) -> str:
    if record is None:
        return "not run"
    if record.encoded is None:
        return "failed"
    return f"**{record.encoded.map_exact:.3f}**" if chosen else f"{record.encoded.map_exact:.3f}"


def _named(row: Row) -> dict[str, Any]:
    return {"group": row.group, "label": row.label, "method": row.method, "head": row.head, "changes": row.changes}


def _table(lines: Sequence[Sequence[str]]) -> str:
    def written() -> Iterator[str]:
        for number, line in enumerate(lines):
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
            if number == 0:
                yield "|" + "---|" * len(line)

    return "\n".join(written())
