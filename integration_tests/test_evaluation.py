"""A gallery of several pages, read from Milvus, gives the figures NumPy gives, on Milvus Lite and on a server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymilvus import MilvusClient

from milvus_fghash.core.codes import pack
from milvus_fghash.datasets.synthetic.drawings import draw_birds
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.evaluation.evaluate import evaluate_collection
from milvus_fghash.evaluation.record import Subject, evaluate_codes
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import Rows
from milvus_fghash.milvus.schema import IndexType

BUNDLE = Path(__file__).resolve().parents[1] / "tests" / "golden" / "bundle-v1"
N_ROWS = 17_000  # more than Milvus gives in one answer


@pytest.mark.parametrize(("store", "index"), [("lite", "BIN_FLAT"), ("server", "BIN_FLAT"), ("server", "BIN_IVF_FLAT")])
def test_a_collection_is_judged_as_numpy_judges_it(
    request: pytest.FixtureRequest, tmp_path: Path, new_name: str, store: str, index: IndexType
) -> None:
    client: MilvusClient = request.getfixturevalue(store)
    encoder = Encoder.open(BUNDLE)
    birds = draw_birds(tmp_path / "birds", classes=4, train_per_class=1, test_per_class=3, size=64)
    random = np.random.default_rng(0)
    codes = pack(random.standard_normal((N_ROWS, encoder.bits)))
    labels = random.choice(birds.classes, N_ROWS)
    ids = np.array([f"{number:032x}" for number in range(N_ROWS)])
    collection = HashCollection.create(client, new_name, encoder.bundle.manifest, index=index)
    try:
        for part in np.array_split(random.permutation(N_ROWS), 5):
            blank = ("",) * len(part)
            names, classes = tuple(ids[part].tolist()), tuple(labels[part].tolist())
            collection.upsert(Rows(names, codes[part], names, classes, blank, ({},) * len(part)))
        if index == "BIN_IVF_FLAT":  # new rows are scanned, whatever the index is: put them under it
            client.flush(new_name, timeout=60)
            client.release_collection(new_name)
            client.load_collection(new_name, timeout=60)
        measured = evaluate_collection(collection, encoder, birds, dataset_name="birds").encoded  # else at once
    finally:
        HashCollection.drop(client, new_name)
    queries = birds.split("test")
    encoded = encoder.encode_files([queries.file(row) for row in range(len(queries))])
    subject = Subject(**measured.model_dump(include=set(Subject.model_fields)))
    expected = evaluate_codes(
        encoded.codes, queries.labels, codes, labels.tolist(), subject, gallery="encoded", gallery_source="NumPy"
    )
    where_and_when = {"date", "gallery_source"}
    assert measured.model_dump(exclude=where_and_when) == expected.model_dump(exclude=where_and_when)
    assert "1,200 distances of 12 queries" in measured.gallery_source
