"""The results of a grid as Markdown, as CSV, and as plain values.

Tables show mean and sample standard deviation over the seeds and the draws of classes. Each protocol has tables of its
own: new photos (B) first, as only these tell how a growing catalog is searched, and last the training photos (A),
encoded and learned. A dash means that a method has no such figure. The Markdown holds no date and no duration: the
same cells always give the same text.
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
from milvus_fghash.evaluation.protocols import PROTOCOLS
from milvus_fghash.evaluation.quality import Quality, mean_quality
from milvus_fghash.evaluation.record import RELEVANCE
from milvus_fghash.experiments.grid import Results, Variant
from milvus_fghash.experiments.learning_rates import rate_factors
from milvus_fghash.experiments.records import ENCODED, LEARNED, Record

DASH = "–"
TITLES = {name: f"{one.title[0].upper()}{one.title[1:]} ({name})" for name, one in PROTOCOLS.items() if name != "A"} | {
    ENCODED: "Encoded gallery",
    LEARNED: "Learned gallery",
}
"""Gallery -> heading of its table, in the order of the document."""
NOTES = {
    ENCODED: "The gallery is the training photos (protocol A), with the codes that the network computes. Training "
    "has seen their labels: these figures do not tell how well new photos (B) or new classes (C) are found.",
    LEARNED: "The gallery holds codes optimised with the labels of the gallery photos. V (in SDH: B): one code per "
    f"photo; class codes: one code per class; {DASH}: the method has no learned codes.",
}
FIGURES = "mAP / precision at 1 / at 10 / reach."
CSV_COLUMNS = (
    "group", "label", "method", "head", "bits", "draw", "seed", "source", "map", "map_sorted", "precision_at_1",
    "precision_at_10", "reach",
    "learning_rate", "seconds", "failed",
)  # fmt: skip


def markdown(results: Results, title: str, notes: Sequence[str] = ()) -> str:
    """The document: a table for each gallery and group, notes, failures, and the learning-rate trials."""
    parts = [f"# {title}", _introduction(results)]
    for gallery in galleries(results):
        parts.append(f"## {TITLES[gallery]}")
        parts.append(_note(results, gallery))
        for group in dict.fromkeys(variant.group for variant in results.spec.variants):
            if group:
                parts.append(f"### {group}")
            parts.append(gallery_table(results, gallery, group))
        parts += _ceilings(results, gallery)
    if complete := [variant.label for variant in results.spec.variants if variant.group and not variant.changes]:
        parts.append(f"The complete method of the recipe: {', '.join(dict.fromkeys(complete))}.")
    parts += notes
    failed = []
    for one in results.all_fits:
        of = f" ({one.spec.fit.name})" if one.spec.fit.name else ""
        failed += [f"- {record.name}{of}: {record.failed}" for record in _distinct(one) if record.failed]
        failed += [
            f"- {variant.name} at {bits} bits{of}: all learning rates failed"
            for variant, bits in one.trials
            if one.all_trials_failed(variant, bits)
        ]
    if failed:
        parts.append("## Failed\n\n" + "\n".join(failed))
    for one in results.all_fits:
        if one.trials:
            of = f", {', '.join(one.spec.galleries)}" if results.by_fit else ""
            parts.append(f"## Learning-rate trials{of}\n\n" + trial_table(one))
    return printable_lines("\n\n".join(parts) + "\n")


def galleries(results: Results) -> list[str]:
    """The galleries to show, in the order of the document."""
    return [name for name in TITLES if results.of(name)]


def gallery_table(results: Results, gallery: str, group: str = "") -> str:
    """Variants by code lengths, for one gallery."""
    spec = results.spec
    variants = [variant for variant in spec.variants if variant.group == group]
    learned = ["codes from"] if gallery == LEARNED else []
    lines = [["variant" if group else "method", "head", *learned, *(f"{bits} bits" for bits in spec.bits)]]
    for variant in variants:
        source = [_source(results, variant)] if learned else []
        lines.append(
            [
                variant.label,
                variant.head or DASH,
                *source,
                *(_cell(results, gallery, variant, bits) for bits in spec.bits),
            ]
        )
    return _table(lines)


def _note(results: Results, gallery: str) -> str:
    """What the figures of a gallery say."""
    if gallery in NOTES:
        return f"{NOTES[gallery]} {FIGURES}"
    one, fit = PROTOCOLS[gallery], results.of(gallery)[0].spec.fit
    text = f"{one.meaning[0].upper()}{one.meaning[1:]}."
    if one.gallery == "test":
        text += " The gallery is the query split, and each photo is a query against all others."
    if one.draws_classes:
        n_draws = len(results.of(gallery))
        text += (
            f" {fit.options.new_classes:.0%} of the classes are new; {n_draws} {'draw' if n_draws == 1 else 'draws'}."
        )
    if any(not fit.can_train(variant.method) for variant in results.spec.variants):
        text += f" {DASH}: the method needs a label for each photo."
    return f"{text} {FIGURES}"


def _ceilings(results: Results, gallery: str) -> list[str]:
    """What the cosine of the features reaches that the codes were made of, each line once.

    There may be several: some methods pool the maps in their own way, and two runtimes differ in rounding.
    """
    found: list[tuple[str, Quality]] = []
    for variant in results.spec.variants:
        records = (results.records(gallery, variant, bits) for bits in results.spec.bits)
        scores = [score for of_length in records for record in of_length if (score := record.score(gallery))]
        if raw := [score.floats for score in scores if score.floats]:
            found.append(("by cosine", mean_quality(raw)))
        for kind in scores[0].lda if scores else ():
            found.append((kind, mean_quality([score.lda[kind] for score in scores if kind in score.lda])))
    lines = (
        f"Floats of the same features, {kind}: mAP {one.map:.3f}, precision at 1 {one.precision_at_1:.3f}, at "
        f"10 {one.precision_at_10:.3f}, reach {one.reach:.2f}."
        for kind, one in found
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


def summary(results: Results, gallery: str) -> list[dict[str, Any]]:
    """One entry for each variant and code length: the mAP of each seed; mean and deviation, unless a seed failed."""
    entries = []
    for variant in results.spec.variants:
        for bits in results.spec.bits:
            records = results.records(gallery, variant, bits)
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
                    "floats": _floats([score.floats for score in scores if score.floats]),
                    "lda": {
                        kind: _floats([score.lda[kind] for score in scores if kind in score.lda])
                        for kind in (scores[0].lda if scores else ())
                    },
                    "seconds": statistics.mean(seconds) if seconds else None,
                }
            )
    return entries


def long_csv(results: Results, gallery: str) -> str:
    """One line for each cell that has this gallery, or failed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    cells = [(one.spec.fit.draw, *cell) for one in results.of(gallery) for cell in one.cells.items()]
    for draw, (variant, bits, seed), record in cells:
        score = record.score(gallery)
        if score is None and not record.failed:
            continue
        figures: tuple[object, ...] = ("",) * 6
        if score:
            more = (score.precision_at.get(10, ""), "" if score.reach is None else score.reach)
            figures = (score.source, score.map_exact, score.map_sorted, score.precision_at[1], *more)
        of_draw = "" if draw is None else draw
        known = (variant.group, variant.label, variant.method, variant.head or "", bits, of_draw, seed)
        rate = record.learning_rate if record.curve else ""
        writer.writerow(map(csv_cell, (*known, *figures, rate, f"{record.seconds:.2f}", record.failed or "")))
    return text.getvalue()


def document(results: Results, title: str, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Everything except curves and recipes, which are in cells.jsonl, as one JSON document."""
    spec = results.spec
    absent = [(one, cell) for one in results.all_fits for cell in one.spec.cells() if cell not in one.cells]
    all_trials_failed = sum(one.all_trials_failed(variant, bits) for one, (variant, bits, _) in absent)
    records = [record for one in results.all_fits for record in one.cells.values()]
    return {
        "title": title,
        "setting": spec.setting,
        "changes": spec.changes,
        "bits": spec.bits,
        "seeds": spec.n_seeds,
        "missing": len(absent) - all_trials_failed,
        "failed": all_trials_failed + sum(record.failed is not None for record in records),
        "notes": list(notes),
        "tables": {gallery: summary(results, gallery) for gallery in galleries(results)},
        "trials": [
            {
                **_keys(variant),
                "bits": bits,
                "fit": one.spec.fit.name,
                "factor": factor,
                "learning_rate": record.learning_rate,
                "map": record.encoded.map_exact if record.encoded else None,
                "failed": record.failed,
                "chosen": factor == one.rate_factor(variant, bits),
            }
            for one in results.all_fits
            for (variant, bits), trials in one.trials.items()
            for factor, record in sorted(trials.items())
        ],
        "cells": [
            {"fit": one.spec.fit.name} | record.model_dump(mode="json", exclude={"curve": True, "identity": {"recipe"}})
            for one in results.all_fits
            for record in _distinct(one)
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
        *(
            write_atomic(out / f"table-{gallery}.csv", long_csv(results, gallery).encode())
            for gallery in galleries(results)
        ),
        write_atomic(out / "results.json", (values + "\n").encode()),
    ]


def _distinct(results: Results) -> list[Record]:
    """Variants of several groups may share a cell."""
    return list({record.name: record for record in results.cells.values()}.values())


def _introduction(results: Results) -> str:
    spec = results.spec
    seeds = f"mean ± sample standard deviation over {spec.n_seeds} seeds" if spec.n_seeds > 1 else "one seed"
    text = f"mAP@all from 0 to 1, the exact expectation over tied distances; {seeds}."
    if record := next((record for one in results.all_fits for record in one.cells.values()), None):
        text += f" {record.n_queries:,} queries, {record.n_gallery:,} photos in the gallery."
        if record.relevance != RELEVANCE:
            text += f" {record.relevance[0].upper()}{record.relevance[1:]}."
    if changes := [change for change in spec.changes if not change.startswith(("backbone.weights=", "trunk.weights="))]:
        text += f" Changed in every recipe: {', '.join(f'`{change}`' for change in changes)}."
    return text


def _cell(results: Results, gallery: str, variant: Variant, bits: int) -> str:
    """``mean ± deviation`` of the mAP and the means of the other figures, or a note when seeds are missing or fail."""
    able = [one for one in results.of(gallery) if variant in one.spec.variants]
    records = results.records(gallery, variant, bits)
    if any(record.failed for record in records) or any(one.all_trials_failed(variant, bits) for one in able):
        return "failed"
    if not able:
        return DASH
    if not records:
        return "not run"
    scores = [score for record in records if (score := record.score(gallery))]
    if not scores:
        return DASH
    values = [score.map_exact for score in scores]
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    more = [_mean([score.precision_at.get(k) for score in scores]) for k in (1, 10)]
    text = [f"{value:.3f}" for value in more if value is not None]
    text += [f"{reach:.2f}" for reach in [_mean([score.reach for score in scores])] if reach is not None]
    wanted = sum(one.spec.n_seeds for one in able)
    share = f" ({len(records)} of {wanted})" if len(records) < wanted else ""
    return " / ".join([f"{statistics.mean(values):.3f}{spread}", *text]) + share


def _floats(qualities: Sequence[Quality]) -> dict[str, Any] | None:
    return mean_quality(qualities).model_dump() if qualities else None


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where a value was not measured."""
    there = [value for value in values if value is not None]
    return statistics.mean(there) if there and len(there) == len(values) else None


def _source(results: Results, variant: Variant) -> str:
    cells = (cell for one in results.of(LEARNED) for cell in one.cells.items())
    records = (record for (of, _, _), record in cells if of == variant)
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
