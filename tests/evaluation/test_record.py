"""Records say what they measured, galleries stay apart, and the document survives the disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from milvus_fghash.core.codes import pack
from milvus_fghash.errors import CodeError, ConfigError, DataError
from milvus_fghash.evaluation import metrics
from milvus_fghash.evaluation.record import (
    Evaluation,
    EvaluationRecord,
    GalleryKind,
    Subject,
    evaluate_codes,
    read_evaluation,
)

SUBJECT = Subject(
    method="fcaenet",
    bits=12,
    fingerprint="f" * 64,
    lineage="ab12",
    dataset="drawings",
    gallery_split="train",
    query_split="test",
    rejected_queries=2,
    versions={"onnxruntime": "1.20"},
)


def record(gallery: GalleryKind = "encoded", subject: Subject = SUBJECT, seed: int = 0) -> EvaluationRecord:
    """60 queries and 150 gallery codes of 4 classes, noisy copies of one code a class."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((4, subject.bits))
    queries, stored = rng.integers(0, 4, 60), rng.integers(0, 4, 150)
    return evaluate_codes(
        pack(centres[queries] + rng.standard_normal((60, subject.bits))),
        [f"class {number}" for number in queries],
        pack(centres[stored] + rng.standard_normal((150, subject.bits))),
        [f"class {number}" for number in stored],
        subject,
        gallery=gallery,
        gallery_source="V" if gallery == "learned" else "network",
    )


def test_a_record_names_its_protocol() -> None:
    made = record()
    assert made.metric == "mAP@all, exact expectation over ties"
    assert (made.gallery, made.gallery_source, made.selection) == ("encoded", "network", "last round")
    assert (made.n_queries, made.n_gallery, made.n_classes, made.rejected_queries) == (60, 150, 4, 2)
    assert {"milvus-fghash", "numpy", "onnxruntime"} <= made.versions.keys()
    assert made.date.endswith("+00:00")


def test_figures_fit_each_other() -> None:
    made = record()
    assert made.map_chance < made.map_exact < 1
    assert made.map_chance == pytest.approx(0.25, abs=0.05)
    assert list(made.precision_at) == [1, 5, 10, 20, 50, 100]  # 200 and more are beyond the gallery
    assert list(made.recall_at.values()) == sorted(made.recall_at.values())
    assert sum(made.same_class_distances) + sum(made.other_class_distances) == 60 * 150
    assert made.pr_curve.recall[-1] == 1
    assert made.pr_curve.precision[-1] == pytest.approx(sum(made.same_class_distances) / (60 * 150))
    assert len(made.pr_curve.recall) == len(made.same_class_distances) == 13
    assert (made.gallery_health.n_codes, made.query_health.n_codes) == (150, 60)


def test_worked_by_hand() -> None:
    # query 0 has class a; gallery at distance 0: a, b; at distance 8: a. AP: relevant at place 1 or 2, and at 3:
    # ((1 + 1/2) / 2 + 2/3) / 2 = 17/24. Stored order b, a, a: (1/2 + 2/3) / 2 = 7/12
    subject = SUBJECT.model_copy(update={"bits": 8})
    made = evaluate_codes(
        np.array([[0]], np.uint8),
        ["a"],
        np.array([[0], [255], [0]], np.uint8),
        ["b", "a", "a"],
        subject,
        gallery="encoded",
        gallery_source="network",
        cutoffs=(1, 2, 3),
    )
    assert made.map_exact == pytest.approx(17 / 24)
    assert made.map_sorted == pytest.approx(7 / 12)
    assert made.precision_at == pytest.approx({1: 1 / 2, 2: 1 / 2, 3: 2 / 3})
    assert made.recall_at == pytest.approx({1: 1 / 4, 2: 1 / 2, 3: 1})


def test_photos_without_a_class_are_relevant_to_nobody() -> None:
    codes = np.zeros((2, 2), np.uint8)
    made = evaluate_codes(codes, ["a", "b"], codes, ["", "a"], SUBJECT, gallery="encoded", gallery_source="network")
    assert made.queries_without_relevant == 1
    assert made.n_classes == 2
    assert sum(made.same_class_distances) == 1
    with pytest.raises(DataError, match="1 of 2 queries have no class"):
        evaluate_codes(codes, ["a", ""], codes, ["", "a"], SUBJECT, gallery="encoded", gallery_source="network")


def test_codes_of_another_length_are_rejected() -> None:
    codes = np.zeros((2, 1), np.uint8)
    with pytest.raises(CodeError, match="12 bits"):
        evaluate_codes(codes, ["a", "b"], codes, ["a", "b"], SUBJECT, gallery="encoded", gallery_source="network")


def test_the_two_galleries_are_never_mixed() -> None:
    encoded, learned = record(), record("learned")
    both = Evaluation(encoded=encoded, learned=learned)
    assert list(both.records) == ["fcaenet, 12 bits, encoded gallery", "fcaenet, 12 bits, learned gallery"]
    alone = Evaluation(encoded=encoded, learned_absent="lsh learns no codes")
    assert list(alone.records.values()) == [encoded]
    with pytest.raises(ValueError, match="exchanged"):
        Evaluation(encoded=learned, learned=encoded)
    with pytest.raises(ValueError, match="reason why there is none"):
        Evaluation(encoded=encoded)
    stranger = record("learned", SUBJECT.model_copy(update={"fingerprint": "0" * 64}))
    with pytest.raises(ValueError, match="different models"):
        Evaluation(encoded=encoded, learned=stranger)


def test_the_document_is_read_back_as_it_was(tmp_path: Path) -> None:
    made = Evaluation(encoded=record(), learned=record("learned"))
    path = tmp_path / "new folder" / "evaluation.json"
    made.write(path)
    assert read_evaluation(path) == made
    path.write_text(path.read_text(encoding="utf-8").replace('"rejected_', '"refused_'), encoding="utf-8")
    assert read_evaluation(path) == made, "a result written before these two keys were renamed"
    assert [file.name for file in path.parent.iterdir()] == ["evaluation.json"]
    assert json.loads(path.read_text())["encoded"]["metric"] == "mAP@all, exact expectation over ties"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("{", DataError, "not an evaluation"),
        ("[]", DataError, "one JSON object"),
        ('{"format_version": 2}', ConfigError, "format_version"),
        ('{"encodde": {}}', ConfigError, "Did you mean encoded"),
    ],
)
def test_what_is_no_evaluation_is_rejected(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(text)
    with pytest.raises(error, match=message):
        read_evaluation(path)
    with pytest.raises(DataError, match="cannot read"):
        read_evaluation(tmp_path / "missing.json")


def test_chance_is_the_exact_value_of_equal_codes() -> None:
    made = record()
    labels = np.repeat(np.arange(4), 40)
    equal = np.zeros((160, 2), np.uint8)
    names = [f"class {number}" for number in labels]
    tied = evaluate_codes(equal, names, equal, names, SUBJECT, gallery="encoded", gallery_source="network")
    assert tied.map_exact == tied.map_chance
    assert tied.map_exact == pytest.approx(
        metrics.mean_average_precision(metrics.Histogram(np.array([[160]]), np.array([[40]])))
    )
    assert made.map_chance < made.map_exact


def test_a_record_of_label_sets_says_what_is_relevant() -> None:
    rng = np.random.default_rng(0)
    made = evaluate_codes(
        pack(rng.standard_normal((3, 12))),
        ["|sky|", "|sky|water|", "|sand|"],
        pack(rng.standard_normal((4, 12))),
        ["|water|", "", "|sky|", "|snow|"],
        SUBJECT,
        gallery="encoded",
        gallery_source="network",
    )
    assert "shares a label with the query" in made.relevance
    assert (made.n_classes, made.queries_without_relevant) == (4, 1)
    assert sum(made.same_class_distances) == 3  # sky; sky and water; none
    assert made.map_at == {}
    assert "has the query's class" in record().relevance


def test_map_at_the_cutoffs_of_papers_where_the_gallery_is_larger() -> None:
    rng = np.random.default_rng(0)
    labels = [f"class {number}" for number in rng.integers(0, 3, 1500)]
    made = evaluate_codes(
        pack(rng.standard_normal((5, 12))),
        labels[:5],
        pack(rng.standard_normal((1500, 12))),
        labels,
        SUBJECT,
        gallery="encoded",
        gallery_source="network",
    )
    assert made.map_at.keys() == {1000}
    assert made.map_at[1000] == pytest.approx(1 / 3, abs=0.05)
    assert made.map_at[1000] != made.map_exact
