"""What one version lacks, and how well each finds: on Milvus Lite, against a slow reference."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milvus_fghash.bundle.bundle import read_bundle
from milvus_fghash.core.codes import hamming
from milvus_fghash.errors import StoreError
from milvus_fghash.migration.model_comparison import ModelComparison, compare_models, compare_rows
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import Rows
from tests.helpers.small_bundle import write_small_bundle
from tests.helpers.small_rows import rows_of


@pytest.fixture(scope="module")
def pair(lite: Any, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[HashCollection, HashCollection]:
    """Two collections of 12 and of 24 bits, for rows of the tests' own."""
    other = write_small_bundle(tmp_path_factory.mktemp("pair") / "other", bits=24, seed=5)
    first, second = (
        HashCollection.create(lite, name, read_bundle(of).manifest)
        for name, of in (("pair_1", bundle), ("pair_2", other))
    )
    return first, second


def fill(pair: tuple[HashCollection, HashCollection], n: int, seed: int, **columns: Any) -> list[Rows]:
    """The same rows into both, each with codes of its own; nothing else is in there."""
    rows = []
    for one in pair:
        one.delete([key for page in one.scan() for key in page.ids])
        rows.append(rows_of(n, one.bits, seed, **columns))
        one.upsert(rows[-1])
    return rows


def slow_precisions(rows: Rows, kept: list[int]) -> list[float]:
    """Average precision of each row that asks for the others: the mean over all orders of equal distances."""
    result = []
    for asks in kept:
        others = [row for row in kept if row != asks]
        distance = {row: int(hamming(rows.codes[[asks]], rows.codes[[row]])[0, 0]) for row in others}
        values = []
        for order in itertools.permutations(others):
            if [distance[row] for row in order] != sorted(distance.values()):
                continue
            right = [rows.labels[row] == rows.labels[asks] for row in order]
            found = [sum(right[: place + 1]) / (place + 1) for place, is_right in enumerate(right) if is_right]
            values.append(sum(found) / len(found))
        result.append(sum(values) / len(values))
    return result


@settings(max_examples=15, deadline=None)
@given(labels=st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=2, max_size=6), seed=st.integers(0, 99))
def test_both_models_are_measured_on_the_same_photos_each_asking_for_the_others(
    pair: tuple[HashCollection, HashCollection], labels: list[str], seed: int
) -> None:
    rows = fill(pair, len(labels), seed, labels=tuple(labels))
    seen = compare_rows(*pair, sample=100)
    assert set(seen.sample) == {key for key, label in zip(rows[0].ids, labels, strict=True) if label}
    kept = [row for row, label in enumerate(labels) if label and labels.count(label) > 1]
    found = compare_models(*pair, seen.sample)
    if not kept:
        assert isinstance(found, str)
        return
    assert isinstance(found, ModelComparison)
    slow = [slow_precisions(one, kept) for one in rows]
    assert [found.old.map_exact, found.new.map_exact] == pytest.approx([np.mean(one) for one in slow])
    apart = np.subtract(slow[1], slow[0])
    assert found.difference == pytest.approx(apart.mean())
    assert found.uncertainty == pytest.approx(1.96 * apart.std(ddof=1) / len(kept) ** 0.5)
    assert (found.photos, found.classes) == (len(kept), len({labels[row] for row in kept}))


def test_a_second_row_of_one_content_does_not_ask_nor_is_it_found(pair: tuple[HashCollection, HashCollection]) -> None:
    fill(pair, 6, 1, labels=("a", "a", "a", "b", "b", "b"), content_shas=("x", "x", "y", "z", "", ""))
    found = compare_models(*pair, compare_rows(*pair, sample=100).sample)
    assert isinstance(found, ModelComparison)
    assert found.photos == 5


def test_the_sample_is_drawn_by_seed_and_split(pair: tuple[HashCollection, HashCollection]) -> None:
    metas = tuple({"split": "test"} if number % 2 else {} for number in range(40))
    rows = fill(pair, 40, 2, labels="a", metas=metas)[0]
    first, again, other = (compare_rows(*pair, sample=10, seed=seed).sample for seed in (0, 0, 1))
    assert first == again != other
    assert len(first) == len(set(first)) == 10
    assert set(compare_rows(*pair, sample=30, split="test").sample) == set(rows.ids[1::2])
    assert compare_rows(*pair).sample == ()


def test_classes_of_one_photo_cannot_be_compared(pair: tuple[HashCollection, HashCollection]) -> None:
    fill(pair, 3, 3, labels=("a", "b", ""))
    assert (
        compare_models(*pair, compare_rows(*pair, sample=9).sample) == "no two photos of the sample have the same class"
    )


def test_what_is_not_in_both_is_not_compared(pair: tuple[HashCollection, HashCollection]) -> None:
    rows = fill(pair, 30, 4, labels="a")[0]
    pair[1].delete(rows.ids[:12])
    seen = compare_rows(*pair, sample=100)
    assert seen.missing.count == 12
    assert seen.missing.examples == tuple(sorted(rows.paths[:12])[:5])
    assert set(seen.sample) == set(rows.ids[12:])
    with pytest.raises(StoreError, match="was deleted in the meantime"):
        compare_models(*pair, rows.ids)
