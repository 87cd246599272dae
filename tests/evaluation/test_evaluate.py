"""Evaluation through a real ONNX graph and a real Milvus Lite agrees with NumPy, and says what it read."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from milvus_fghash.bundle.bundle import LearnedCodes
from milvus_fghash.bundle.training_photos import TrainingPhotos
from milvus_fghash.core.codes import Codes
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import ConfigError, DataError, StoreError
from milvus_fghash.evaluation import evaluate as evaluation
from milvus_fghash.evaluation.evaluate import check_distances, evaluate_bundle, evaluate_collection
from milvus_fghash.evaluation.metrics import distance_histogram, mean_average_precision
from milvus_fghash.evaluation.quality import float_quality
from milvus_fghash.evaluation.record import Evaluation, EvaluationRecord, read_evaluation
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import ConnectionConfig, connect
from milvus_fghash.milvus.rows import Rows, photo_id
from milvus_fghash.search.search import SearchResult, search_codes
from tests.helpers.small_bundle import write_small_bundle

pytestmark = pytest.mark.full


def open_encoder(folder: Path, learned: LearnedCodes | None = None, seed: int = 0) -> Encoder:
    return Encoder.open(write_small_bundle(folder, seed=seed, learned=learned))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return open_encoder(tmp_path_factory.mktemp("bundle") / "lsh")


def codes_of(encoder: Encoder, photos: Dataset) -> Codes:
    return encoder.encode_files([photos.file(row) for row in range(len(photos))]).codes


def ingested(folder: Path, encoder: Encoder, photos: Dataset) -> HashCollection:
    """The photos in a new Milvus Lite collection."""
    client = connect(ConnectionConfig(str(folder / "test.db")))
    collection = HashCollection.create(client, "birds", encoder.bundle.manifest)
    ids = tuple(photo_id("test", path) for path in photos.paths)
    shas = tuple(hashlib.sha256(photos.file(row).read_bytes()).hexdigest() for row in range(len(ids)))
    collection.upsert(Rows(ids, codes_of(encoder, photos), photos.paths, photos.labels, shas, ({},) * len(ids)))
    return collection


def by_id(photos: Dataset) -> Dataset:
    return photos.take(sorted(range(len(photos)), key=lambda row: photo_id("test", photos.paths[row])))


def figures(record: EvaluationRecord) -> dict[str, object]:
    """All that was measured, without where and when."""
    return record.model_dump(exclude={"date", "versions", "gallery_source", "gallery_split"})


def assert_splits(dataset: Dataset, gallery: Dataset) -> Dataset:
    """A listing whose train photos are ``gallery``, in its order."""
    test = dataset.split("test")
    columns = (getattr(gallery, name) + getattr(test, name) for name in ("ids", "paths", "labels", "splits"))
    return Dataset(dataset.root, *columns)


def test_a_bundle_without_learned_codes(encoder: Encoder, drawn_birds: Dataset, tmp_path: Path) -> None:
    made = evaluate_bundle(encoder, drawn_birds, dataset_name="birds")
    assert (made.learned, made.learned_absent) == (None, "lsh does not learn codes of training photos")
    record = made.encoded
    assert (record.n_gallery, record.n_queries, record.n_classes) == (24, 12, 4)
    assert (record.dataset, record.gallery_split, record.query_split) == ("birds", "train", "test")
    assert (record.gallery_source, record.fingerprint) == ("network", "0" * 64)
    assert "CPUExecutionProvider" in record.versions["onnxruntime"]
    made.write(tmp_path / "evaluation.json")
    assert read_evaluation(tmp_path / "evaluation.json") == made


def class_codes(labels: tuple[str, ...]) -> Codes:
    """One code a class."""
    numbers = {label: number for number, label in enumerate(sorted(set(labels)))}
    return np.array([[numbers[label] * 16 + 1, 0] for label in labels], np.uint8)


def test_learned_codes_are_a_gallery_of_their_own(drawn_birds: Dataset, tmp_path: Path) -> None:
    train = drawn_birds.split("train")
    rows = [row for row in range(len(train)) if row % 6]  # one photo of each class was held out in training
    part = train.take(rows[::-1])  # in an order of its own
    ids, labels = (*part.ids, "elsewhere"), (*part.labels, part.labels[0])
    learned = LearnedCodes(ids, labels, class_codes(labels), "V")
    encoder = open_encoder(tmp_path / "learned", learned)
    made = evaluate_bundle(encoder, drawn_birds, dataset_name="birds")
    assert made.learned is not None
    assert (made.encoded.n_gallery, made.learned.n_gallery) == (24, 20)
    assert made.learned.gallery_source == "V (20 of 21 learned codes match the 24 photos)"
    assert made.learned.gallery_health.distinct_codes == 4
    assert made.encoded.gallery_health != made.learned.gallery_health
    assert made.encoded.query_health == made.learned.query_health


def test_learned_codes_of_other_photos_are_not_used(drawn_birds: Dataset, tmp_path: Path) -> None:
    learned = LearnedCodes(("x", "y"), ("a", "b"), class_codes(("a", "b")), "V")
    made = evaluate_bundle(open_encoder(tmp_path / "learned", learned), drawn_birds, dataset_name="birds")
    assert made.learned is None
    assert made.learned_absent == "none of the 2 learned codes is of a photo in the split 'train'"


def test_a_learned_code_of_another_class_is_an_error(drawn_birds: Dataset, tmp_path: Path) -> None:
    learned = LearnedCodes((drawn_birds.split("train").ids[0],), ("dragon",), class_codes(("dragon",)), "V")
    with pytest.raises(DataError, match="'dragon' in the bundle"):
        evaluate_bundle(open_encoder(tmp_path / "learned", learned), drawn_birds, dataset_name="birds")


def test_rejected_photos_are_counted_and_named(
    encoder: Encoder, drawn_birds: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "text.jpg").write_text("no photo")
    rows = range(len(drawn_birds))
    files = tuple(str(drawn_birds.file(row)) for row in rows)
    columns = (drawn_birds.ids, files, drawn_birds.labels, drawn_birds.splits)
    broken = (("bad query", "bad photo"), (str(tmp_path / "text.jpg"),) * 2, ("robin",) * 2, ("test", "train"))
    ids, paths, labels, splits = (new + old for new, old in zip(broken, columns, strict=True))
    dataset = Dataset(Path("/"), ids, paths, labels, splits)
    made = evaluate_bundle(encoder, dataset, dataset_name="birds").encoded
    assert (made.rejected_gallery, made.rejected_queries, made.n_gallery, made.n_queries) == (1, 1, 24, 12)
    text = tmp_path / "text.jpg"
    assert [message.split(":")[0] for message in caplog.messages] == [
        f"query photo {text} rejected (format)",
        f"gallery photo {text} rejected (format)",
    ]
    expected = evaluate_bundle(encoder, drawn_birds, dataset_name="birds").encoded
    assert made.map_exact == expected.map_exact  # labels still belong to their photos
    with pytest.raises(DataError, match="none of the 1 query photos can be read"):
        evaluate_bundle(encoder, dataset.take([0, 1]), dataset_name="birds")


def test_a_collection_gives_the_figures_of_the_photos(encoder: Encoder, drawn_birds: Dataset, tmp_path: Path) -> None:
    collection = ingested(tmp_path, encoder, drawn_birds.split("train"))
    made = evaluate_collection(collection, encoder, drawn_birds, dataset_name="birds", checked_queries=5)
    ordered = assert_splits(drawn_birds, by_id(drawn_birds.split("train")))
    assert figures(made.encoded) == figures(evaluate_bundle(encoder, ordered, dataset_name="birds").encoded)
    assert "Milvus collection birds in the order of its ids; 120 distances of 5 queries" in made.encoded.gallery_source
    assert made.encoded.gallery_split == "all rows"
    assert made.encoded.versions["milvus"].startswith("lite ")
    assert made.learned_absent == "a collection has encoded codes only"


def test_no_query_finds_itself(encoder: Encoder, drawn_birds: Dataset, tmp_path: Path) -> None:
    """As after `ingest` of a whole folder."""
    collection = ingested(tmp_path, encoder, drawn_birds)
    made = evaluate_collection(collection, encoder, drawn_birds, dataset_name="birds").encoded
    ordered = assert_splits(drawn_birds, by_id(drawn_birds.split("train")))
    assert figures(made) == figures(evaluate_bundle(encoder, ordered, dataset_name="birds").encoded)
    assert made.gallery_source.endswith("; 12 rows with the file of a query are left out")
    with pytest.raises(StoreError, match=r"every row of birds is a photo of the split 'test'.* ingest other"):
        evaluate_collection(collection, encoder, drawn_birds, dataset_name="birds", filter='path like "test%"')


def test_a_query_in_the_gallery_asks_among_the_others(encoder: Encoder, drawn_birds: Dataset) -> None:
    made = evaluate_bundle(
        encoder, drawn_birds, dataset_name="birds", gallery_split="test", further_galleries=["train", "test,train"]
    )
    assert [one.n_gallery for one in (made.encoded, *made.further)] == [12, 24, 36]
    assert made.encoded.gallery_source == "network; 12 queries are in the gallery and do not find themselves"
    test = drawn_birds.split("test")
    codes, numbers = codes_of(encoder, test), test.label_numbers(test.classes)
    alone = []
    for row in range(12):
        others = np.delete(np.arange(12), row)
        one = distance_histogram(codes[[row]], numbers[[row]], codes[others], numbers[others], 12)
        alone.append(mean_average_precision(one))
    assert made.encoded.map_exact == pytest.approx(np.mean(alone), abs=1e-12)
    plain = evaluate_bundle(encoder, drawn_birds, dataset_name="birds").encoded
    assert figures(made.further[0]) == figures(plain)


def test_without_splits_each_photo_asks_among_all_others(
    encoder: Encoder, drawn_birds: Dataset, tmp_path: Path
) -> None:
    flat = replace(drawn_birds, splits=("",) * 36, labels=("", *drawn_birds.labels[1:]))
    made = evaluate_bundle(encoder, flat, dataset_name="birds").encoded
    assert (made.n_queries, made.n_gallery, made.gallery_split) == (35, 36, "all photos")  # one has no class
    assert sum(made.same_class_distances) + sum(made.other_class_distances) == 35 * 35
    assert made.protocol.startswith("unknown")
    learned = LearnedCodes(flat.ids[1:3], flat.labels[1:3], class_codes(flat.labels[1:3]), "V")
    with_learned = evaluate_bundle(open_encoder(tmp_path / "learned", learned), flat, dataset_name="birds")
    assert with_learned.learned is None  # the queries' own labels made the codes
    assert with_learned.learned_absent is not None
    assert "made with their labels" in with_learned.learned_absent


def test_photos_without_classes_are_rejected_before_they_are_encoded(
    encoder: Encoder, drawn_birds: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nameless = replace(drawn_birds, labels=("",) * len(drawn_birds))
    collection = ingested(tmp_path, encoder, drawn_birds.split("train"))
    monkeypatch.setattr(Encoder, "encode_files", lambda *args, **options: pytest.fail("photos are encoded"))
    with pytest.raises(DataError, match=r"none of the query photos has a class.*folders named by class"):
        evaluate_bundle(encoder, nameless, dataset_name="birds")
    with pytest.raises(DataError, match="none of the query photos has a class"):
        evaluate_collection(collection, encoder, nameless, dataset_name="birds")


def test_the_record_says_which_photos_were_trained_on(drawn_birds: Dataset, tmp_path: Path) -> None:
    train, two = drawn_birds.split("train"), drawn_birds.classes[:2]
    shas = [hashlib.sha256(train.file(row).read_bytes()).hexdigest() for row in range(len(train))]
    seen = [row for row, label in enumerate(train.labels) if label in two]
    trained = TrainingPhotos.of([shas[row] for row in seen], [train.labels[row] for row in seen], bytes(16))
    folder = write_small_bundle(tmp_path / "b", outputs=("logits", "codes", "embedding"), training_photos=trained)
    encoder = Encoder.open(folder)
    rows = [row for row, label in enumerate(drawn_birds.labels) if label in two]
    made = evaluate_bundle(encoder, drawn_birds.take(rows), dataset_name="birds", further_galleries=["test"])
    assert made.encoded.protocol == "A, trained photos (12 trained on, of 12 in the gallery)"
    (new,) = made.further
    assert new.protocol == "B, new photos of known classes (6 new photos of known classes, of 6 in the gallery)"
    rest = [row for row in range(36) if row not in rows]
    made = evaluate_bundle(encoder, drawn_birds.take(rest), dataset_name="birds")
    assert made.encoded.protocol.startswith("C, new classes")
    made = evaluate_bundle(encoder, drawn_birds, dataset_name="birds")
    assert made.encoded.protocol.startswith("mixed (12 trained on, 12 photos of new classes")
    embedded = [
        encoder.encode_files([part.file(row) for row in range(len(part))], embedding=True).embedding
        for part in (drawn_birds.split("test"), train)
    ]
    numbers = [part.label_numbers(drawn_birds.classes) for part in (drawn_birds.split("test"), train)]
    assert embedded[0] is not None
    assert embedded[1] is not None
    assert made.encoded.floats == float_quality(embedded[0], numbers[0], embedded[1], numbers[1])
    collection = ingested(tmp_path, encoder, train)
    stored = evaluate_collection(collection, encoder, drawn_birds, dataset_name="birds").encoded
    assert stored.training_overlap == made.encoded.training_overlap
    made.write(tmp_path / "evaluation.json")
    assert read_evaluation(tmp_path / "evaluation.json") == made


def test_the_order_of_reading_does_not_matter(
    encoder: Encoder, drawn_birds: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = ingested(tmp_path, encoder, drawn_birds.split("train"))
    expected = evaluate_collection(collection, encoder, drawn_birds, dataset_name="birds").encoded
    pages = list(collection.scan(batch=1))
    monkeypatch.setattr(HashCollection, "scan", lambda self, filter: reversed(pages))
    made = evaluate_collection(collection, encoder, drawn_birds, dataset_name="birds").encoded
    assert figures(made) == figures(expected)


def test_a_filter_makes_a_part_of_the_collection_the_gallery(
    encoder: Encoder, drawn_birds: Dataset, tmp_path: Path
) -> None:
    train = drawn_birds.split("train")
    collection = ingested(tmp_path, encoder, train)
    two = drawn_birds.classes[:2]
    expression = f'label in ["{two[0]}", "{two[1]}"]'
    made = evaluate_collection(collection, encoder, drawn_birds, dataset_name="birds", filter=expression).encoded
    part = by_id(train.take([row for row, label in enumerate(train.labels) if label in two]))
    expected = evaluate_bundle(encoder, assert_splits(drawn_birds, part), dataset_name="birds").encoded
    assert figures(made) == figures(expected)
    assert (made.n_gallery, made.queries_without_relevant, made.gallery_split) == (12, 6, expression)
    with pytest.raises(StoreError, match="no row of birds matches label"):
        evaluate_collection(collection, encoder, drawn_birds, dataset_name="birds", filter='label == "dragon"')
    wrong = f"{expression} AND path == 'x'"
    with pytest.raises(ConfigError, match="Milvus Lite accepts `and` in lower case only"):  # before any photo is read
        evaluate_collection(collection, encoder, drawn_birds, dataset_name="birds", query_split="nowhere", filter=wrong)


def test_another_model_is_rejected(encoder: Encoder, drawn_birds: Dataset, tmp_path: Path) -> None:
    collection = ingested(tmp_path, encoder, drawn_birds.split("train"))
    other = open_encoder(tmp_path / "other", seed=1)
    with pytest.raises(StoreError, match="fingerprint"):
        evaluate_collection(collection, other, drawn_birds, dataset_name="birds")


def test_any_difference_between_milvus_and_numpy_is_an_error(
    encoder: Encoder, drawn_birds: Dataset, tmp_path: Path
) -> None:
    train = drawn_birds.split("train")
    collection = ingested(tmp_path, encoder, train)
    ids = [photo_id("test", path) for path in train.paths]
    codes, queries = codes_of(encoder, train), codes_of(encoder, drawn_birds.split("test"))
    assert check_distances(collection, queries, ids, codes) == 12 * 24
    for row in (0, 23):
        with pytest.raises(StoreError, match="disagree"):
            check_distances(collection, queries[:1], ids, one_bit_off(codes, row))
    extra = np.concatenate([codes, queries[:1]])
    with pytest.raises(StoreError, match="disagree"):  # a row that Milvus does not have
        check_distances(collection, queries[:1], [*ids, "only in NumPy"], extra)
    with pytest.raises(StoreError, match="is new"):
        check_distances(collection, queries[:1], ids[1:], codes[1:])


def test_a_distance_that_milvus_miscounts_is_an_error(
    encoder: Encoder, drawn_birds: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = drawn_birds.split("train")
    collection = ingested(tmp_path, encoder, train)
    ids, codes = [photo_id("test", path) for path in train.paths], codes_of(encoder, train)

    def one_too_far(*asked: Any) -> list[SearchResult]:
        return [
            SearchResult(tuple(replace(hit, distance=hit.distance + 1) for hit in found.hits), found.complete)
            for found in search_codes(*asked)
        ]

    monkeypatch.setattr(evaluation, "search_codes", one_too_far)
    with pytest.raises(StoreError, match="disagree"):
        check_distances(collection, codes, ids, codes)


def test_ties_at_the_last_hit_are_no_difference(
    encoder: Encoder, drawn_birds: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = drawn_birds.split("train")
    collection = ingested(tmp_path, encoder, train)
    ids, codes = [photo_id("test", path) for path in train.paths], codes_of(encoder, train)
    for hits in (1, 5, 11):  # 24 codes of 12 bits: most cuts fall among equal distances
        monkeypatch.setattr(evaluation, "HITS_CHECKED", hits)
        assert check_distances(collection, codes, ids, codes) == 24 * hits


def test_a_collection_that_changes_while_it_is_read_is_an_error(
    encoder: Encoder, drawn_birds: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = ingested(tmp_path, encoder, drawn_birds.split("train"))
    monkeypatch.setattr(HashCollection, "count", lambda self: 25)
    with pytest.raises(StoreError, match="was changed while it was read"):
        evaluate_collection(collection, encoder, drawn_birds, dataset_name="birds")


def one_bit_off(codes: Codes, row: int) -> NDArray[np.uint8]:
    changed = codes.copy()
    changed[row, 0] ^= 1
    return changed


def test_galleries_keep_their_documents_apart(encoder: Encoder, drawn_birds: Dataset) -> None:
    made = evaluate_bundle(encoder, drawn_birds, dataset_name="birds")
    with pytest.raises(ValueError, match="exchanged"):
        Evaluation(encoded=made.encoded, learned=made.encoded)
