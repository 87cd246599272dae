"""Tables by hand: mean, sample standard deviation, dash, and two galleries that never meet."""

from __future__ import annotations

import csv
import io
import json

import pytest

from milvus_fghash.evaluation.quality import Quality
from milvus_fghash.experiments import tables
from milvus_fghash.experiments.fits import fits
from milvus_fghash.experiments.grid import GridSpec, Results, Variant
from tests.helpers.made_up_records import BASELINE, LSH, OTHER, record, results, score

KINHASH = Variant("kinhash", "kinhash", "linear")

ENCODED = """\
| method | head | 12 bits | 48 bits |
|---|---|---|---|
| lsh | – | 0.200 ± 0.141 / 0.100 | 0.250 ± 0.000 / 0.125 |
| baseline | linear | 0.450 ± 0.071 / 0.225 | 0.450 ± 0.071 / 0.225 |
| baseline | mlp | 0.700 / 0.350 (1 of 2) | not run |"""
"""0.1 and 0.3: mean 0.2, deviation sqrt(2 * 0.1^2 / (2 - 1)) = 0.1414; 0.4 and 0.5: sqrt(2 * 0.05^2) = 0.0707. Then
precision at 1, which is half the mAP here."""

LEARNED = """\
| method | head | codes from | 12 bits | 48 bits |
|---|---|---|---|---|
| lsh | – | – | – | – |
| baseline | linear | V | 0.700 ± 0.141 / 0.350 | 0.700 ± 0.141 / 0.350 |
| baseline | mlp | V | 0.900 / 0.450 (1 of 2) | not run |"""

TRIALS = """\
| method | head | bits | recipe's rate | x 0.333 | x 1 | x 3 | chosen |
|---|---|---|---|---|---|---|---|
| baseline | linear | 24 | 0.001 | 0.200 | **0.300** | failed | 0.001 |
| baseline | mlp | 24 | 0.001 | **0.600** | 0.500 | 0.400 | 0.001 |"""


def test_the_tables_are_those_made_by_hand() -> None:
    assert tables.gallery_table(results(), "encoded") == ENCODED
    assert tables.gallery_table(results(), "learned") == LEARNED
    assert tables.trial_table(results()).endswith(TRIALS)


def test_a_document_has_each_gallery_apart_and_no_date() -> None:
    text = tables.markdown(results(), "Comparison", ["Not applicable: a2net."])
    assert text == tables.markdown(results(), "Comparison", ["Not applicable: a2net."])
    encoded, learned = text.split("## Learned gallery")
    assert ENCODED in encoded
    assert LEARNED in learned
    assert "0.700 ± 0.141" not in encoded
    assert "0.450 ±" not in learned
    assert "mean ± sample standard deviation over 2 seeds. 1,200 queries, 2,400 photos in the gallery." in text
    assert "Not applicable: a2net." in text
    assert "1.5" not in text, "seconds differ from run to run, so they have no place in the table"


def test_new_photos_come_first_with_precision_and_the_ceiling() -> None:
    made, floats = (
        results(),
        Quality(n_queries=5, n_gallery=5, map=0.5, precision_at_1=0.9, precision_at_10=0.75, reach=0.98),
    )
    for (variant, bits, seed), one in list(made.cells.items()):
        if variant != OTHER:
            rounded = floats.model_copy(update={"map": floats.map + 1e-6 * (variant == BASELINE)})
            new = score(0.1 + 0.2 * seed).model_copy(
                update={"reach": 0.5, "floats": rounded, "lda": {"lda, 256 axes": rounded}}
            )
            made.cells[variant, bits, seed] = one.model_copy(update={"protocols": {"B": new}})
    text = tables.markdown(made, "Comparison")
    head, _, rest = text.partition("## New photos (B)")
    table, _, _ = rest.partition("## Encoded gallery")
    assert "##" not in head.removeprefix("#")
    assert "| lsh | – | 0.200 ± 0.141 / 0.100 / 0.50 | 0.200 ± 0.141 / 0.100 / 0.50 |" in table
    assert table.count("by cosine: mAP 0.500, precision at 1 0.900, at 10 0.750, reach 0.98.") == 1
    assert table.count("lda, 256 axes: mAP 0.500, precision at 1 0.900, at 10 0.750, reach 0.98.") == 1
    (entry,) = [one for one in tables.summary(made, "B") if (one["method"], one["bits"]) == ("lsh", 12)]
    assert (entry["reach"], entry["precision_at_10"], entry["floats"]["map"]) == (0.5, None, 0.5)


def test_draws_of_new_classes_are_one_table_and_a_method_that_cannot_be_fitted_has_a_dash() -> None:
    asked = GridSpec("demo", (LSH, KINHASH), (12,), 1, protocols=("E2", "Mn"))
    by_fit = []
    for draw, fit in enumerate(fits(("E2", "Mn"), draws=2)):
        one = Results(asked.fitted_on(fit))
        assert one.spec.variants == (LSH,)
        figures = {name: score(0.2 + 0.4 * draw) for name in fit.protocols}
        made = record(f"lsh-{draw}", None)
        one.cells[LSH, 12, 0] = made.model_copy(update={"failed": None, "protocols": figures})
        by_fit.append(one)
    made_of = Results(asked, by_fit=tuple(by_fit))
    text = tables.markdown(made_of, "Comparison")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## New photos of classes fitted without labels (E2)",
        "## Mixed catalog, queries of new classes (Mn)",
    ]
    assert text.count("| lsh | – | 0.400 ± 0.283 / 0.200 |") == 2  # 0.2 and 0.6: sqrt(2 * 0.2^2)
    assert text.count("| kinhash | linear | – |") == 2
    assert "50% of the classes are new; 2 draws. –: the method needs a label for each photo." in text
    lines = list(csv.DictReader(io.StringIO(tables.long_csv(made_of, "Mn"))))
    assert [(line["draw"], line["map"]) for line in lines] == [("0", "0.2"), ("1", "0.6000000000000001")]
    document = tables.document(made_of, "Comparison")
    assert (document["missing"], [one["fit"] for one in document["cells"]]) == (
        0,
        ["unlabelled-new-classes-0.5-draw0", "unlabelled-new-classes-0.5-draw1"],
    )


def test_a_failed_cell_is_not_left_out_of_a_mean() -> None:
    made = results()
    made.cells[BASELINE, 12, 1] = record("baseline-12-1", None)
    assert "| baseline | linear | failed | 0.450 ± 0.071 / 0.225 |" in tables.gallery_table(made, "encoded")
    assert "| baseline | linear | V | failed | 0.700 ± 0.141 / 0.350 |" in tables.gallery_table(made, "learned")
    assert "- baseline-12-1: the loss is not finite" in tables.markdown(made, "Comparison")


def test_a_row_without_a_learning_rate_is_named() -> None:
    made = results()
    made.trials[OTHER, 24] = {factor: record(f"t{factor}", None) for factor in (1 / 3, 1.0, 3.0)}
    text = tables.markdown(made, "Comparison")
    assert "- baseline-mlp at 24 bits: all learning rates failed" in text
    assert "| baseline | mlp | 24 | 0.001 | failed | failed | failed | – |" in text


def test_trials_stand_under_their_own_rate_while_some_are_open() -> None:
    made = results()
    del made.trials[BASELINE, 24][1 / 3]
    del made.trials[OTHER, 24][1.0]
    text = tables.trial_table(made)
    assert "| x 0.333 | x 1 | x 3 |" in text
    assert "| baseline | linear | 24 | 0.001 | not run | 0.300 | failed | – |" in text
    assert "| baseline | mlp | 24 | – | 0.600 | not run | 0.400 | – |" in text


def test_where_every_rate_failed_the_cells_did() -> None:
    made = results()
    made.trials[OTHER, 24] = {factor: record(f"t{factor}", None) for factor in (1 / 3, 1.0, 3.0)}
    assert "| baseline | mlp | failed | failed |" in tables.gallery_table(made, "encoded")


def test_groups_are_tables_of_their_own() -> None:
    variants = (
        Variant("10 boxes", "fcaenet", "linear", ("boxes=10",), "Boxes"),
        Variant("both", "fcaenet", "linear", (), "Parts"),
    )
    made = Results(GridSpec("demo", variants, (12,), 1))
    for number, variant in enumerate(variants):
        made.cells[variant, 12, 0] = record(variant.name, 0.1 * (number + 1))
    text = tables.markdown(made, "Ablation")
    assert "The complete method of the recipe: both." in text
    assert (
        "### Boxes\n\n| variant | head | 12 bits |\n|---|---|---|\n| 10 boxes | linear | 0.100 / 0.050 |\n\n### Parts"
        in text
    )
    assert "one seed" in text


def test_what_was_changed_in_every_recipe_is_told() -> None:
    changes = ("training.rounds=3", "backbone.weights='local'", "trunk.weights='local'")
    assert "Changed in every recipe: `training.rounds=3`.\n" in tables.markdown(
        Results(GridSpec("demo", (LSH,), (12,), 1, changes=changes)), "Comparison"
    )
    assert "Changed" not in tables.markdown(Results(GridSpec("demo", (LSH,), (12,), 1)), "Comparison")


def test_each_gallery_has_a_csv_with_a_line_for_each_cell() -> None:
    encoded, lines = (
        list(csv.DictReader(io.StringIO(tables.long_csv(results(), gallery)))) for gallery in ("encoded", "learned")
    )
    assert (len(encoded), len(lines)) == (4 + 4 + 1, 4 + 1)
    (line,) = [one for one in lines if (one["head"], one["bits"]) == ("linear", "48")][1:]
    assert line == {
        "group": "", "label": "baseline", "method": "baseline", "head": "linear", "bits": "48", "draw": "", "seed": "1",
        "source": "V", "map": "0.8", "map_sorted": "0.8", "precision_at_1": "0.4",
        "precision_at_10": "", "reach": "",
        "learning_rate": "0.001", "seconds": "1.50", "failed": "",
    }  # fmt: skip
    assert {one["learning_rate"] for one in encoded if one["method"] == "lsh"} == {""}


def test_a_message_that_reads_as_a_formula_stays_a_text_in_csv() -> None:
    made = results()
    made.cells[BASELINE, 12, 1] = record("baseline-12-1", None).model_copy(update={"failed": "=1+1"})
    (line,) = [one for one in csv.DictReader(io.StringIO(tables.long_csv(made, "encoded"))) if one["failed"]]
    assert line["failed"] == "'=1+1"


def test_the_document_says_all_that_the_tables_say() -> None:
    values = json.loads(json.dumps(tables.document(results(), "Comparison", ["note"])))
    (entry,) = [
        one
        for one in values["tables"]["learned"]
        if (one["method"], one["bits"], one["head"]) == ("baseline", 12, "linear")
    ]
    assert entry["mean"] == pytest.approx(0.7)
    assert entry["deviation"] == pytest.approx(0.1414, abs=1e-4)
    assert entry["seeds"] == [0.6, 0.8]
    assert entry["source"] == "V"
    assert values["missing"] == 3
    assert [one["factor"] for one in values["trials"] if one["chosen"]] == [1.0, 1 / 3]
    absent = [one for one in values["tables"]["learned"] if one["method"] == LSH.method]
    assert [one["mean"] for one in absent] == [None, None]
    made = results()
    made.cells[BASELINE, 12, 1] = record("baseline-12-1", None)
    values = tables.document(made, "Comparison")
    entry = values["tables"]["encoded"][2]
    assert (entry["method"], entry["bits"], entry["mean"], entry["seeds"], entry["failed"]) == (
        "baseline", 12, None, [0.4], 1,
    )  # fmt: skip
    assert values["failed"] == 1
    assert entry["seconds"] == 1.5
    made.trials[OTHER, 24] = {factor: record(f"t{factor}", None) for factor in (1 / 3, 1.0, 3.0)}
    values = tables.document(made, "Comparison")
    assert (values["missing"], values["failed"]) == (0, 4), "where every rate failed, nothing is left to be run"
