"""Photos in a bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvus_fghash.datasets.read import Url, detect, read
from milvus_fghash.datasets.sources.fetch import request_revisions
from milvus_fghash.datasets.sources.location import PhotoLocation
from milvus_fghash.datasets.sources.reader import read_source
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.decode_stream import decode
from milvus_fghash.errors import DataError, ImageRejected
from tests.helpers.decoders import SMALL, summary
from tests.helpers.image_bytes import grey
from tests.helpers.s3_server import Store

pytestmark = pytest.mark.full

ODD = ("train/jay/a b+c.png", "train/jay/100%.png", "train/wren/x?y#z.png", "train/wren/ü::v.png", "test/jay/[1]*.png")


def put(store: Store, bucket: str, files: dict[str, bytes]) -> None:
    for path, raw in files.items():
        store.fs.pipe_file(f"{bucket}/{path}", raw)
    store.asked.clear()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bucket_is_listed_once_and_each_photo_read_once(store: Store, bucket: str, workers: int) -> None:
    files = {f"birds/{path}": grey(number) for number, path in enumerate(sorted(ODD))}
    put(store, bucket, {**files, "birds/.hidden/a.png": b"", "birds/notes.txt": b"", "birds2/a.png": b""})
    dataset = read("folder", Url(f"s3://{bucket}/birds"))
    assert dataset.paths == tuple(sorted(ODD))
    assert dataset.labels == tuple(path.split("/")[1] for path in dataset.paths)
    assert dataset.splits == tuple(path.split("/")[0] for path in dataset.paths)
    assert all(isinstance(place, PhotoLocation) and place.revision for place in dataset.sources)
    assert {method for method, _ in store.asked} == {"GET"}  # no HEAD for each
    assert store.gets() == []
    assert summary(decode(dataset.sources, SMALL, DecodeOptions(workers=workers))) == list(range(len(ODD)))
    assert len(store.gets()) == len(ODD)


def test_the_version_is_of_the_content(store: Store, bucket: str) -> None:
    put(store, bucket, {"a.png": grey(1), "b.png": grey(2)})
    dataset = read("folder", Url(f"s3://{bucket}"))
    put(store, bucket, {"a.png": grey(3), "b.png": grey(2)})
    again = read("folder", Url(f"s3://{bucket}/"))
    before, after = (
        [place.revision for place in one.sources if isinstance(place, PhotoLocation)] for one in (dataset, again)
    )
    assert (before[0] == after[0], before[1] == after[1]) == (False, True)
    assert request_revisions([PhotoLocation(f"s3://{bucket}/{name}.png", name) for name in ("a", "b")])() == after


def test_what_cannot_be_had(store: Store, bucket: str) -> None:
    put(store, bucket, {"empty.png": b"", "large.png": bytes(2_000_000)})
    reasons = {}
    for name in ("none.png", "empty.png", "large.png"):
        with pytest.raises(ImageRejected) as caught:
            read_source(PhotoLocation(f"s3://{bucket}/{name}", name), 1000)
        reasons[name] = caught.value.reason
    assert reasons == {"none.png": "missing", "empty.png": "empty", "large.png": "too-large"}


def test_keys_that_are_no_plain_paths_stop_nothing_else(store: Store, bucket: str) -> None:
    keys = ("birds/jay//1.png", "birds/jay/./2.png", "birds/../3.png", "birds/wren/4.png")
    put(store, bucket, {key: grey(number) for number, key in enumerate(keys, start=1)})
    dataset = read("folder", Url(f"s3://{bucket}/birds"))
    assert dataset.paths[-3:] == ("jay/1.png", "jay/2.png", "wren/4.png")
    assert summary(decode(dataset.sources, SMALL, DecodeOptions(workers=0))) == ["name", 1, 2, 4]


def test_a_store_that_is_not_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="cannot list s3://no-such-bucket"):
        read("folder", Url("s3://no-such-bucket/birds"))


def test_a_list_here_of_photos_there(store: Store, bucket: str, tmp_path: Path) -> None:
    put(store, bucket, {"a.png": grey(1), "more/b.png": grey(2)})
    (tmp_path / "here.png").write_bytes(grey(3))
    (tmp_path / "list.csv").write_text(f"path,label\ns3://{bucket}/a.png,jay\nhere.png,wren\n")
    dataset = read("table", tmp_path / "list.csv")
    assert dataset.paths == (f"s3://{bucket}/a.png", "here.png")
    assert summary(decode(dataset.sources, SMALL, DecodeOptions(workers=1))) == [1, 3]


def test_parquet_in_a_bucket(store: Store, bucket: str, tmp_path: Path) -> None:
    from pyarrow import lib, parquet

    parquet.write_table(lib.table({"path": ["a.png"], "label": ["jay"]}), tmp_path / "x.parquet")  # type: ignore[no-untyped-call]
    put(store, bucket, {"lists/x.parquet": (tmp_path / "x.parquet").read_bytes(), "lists/a.png": grey(9)})
    url = Url(f"s3://{bucket}/lists/x.parquet")
    assert detect(url) == "table"
    dataset = read("table", url)
    assert (dataset.paths, dataset.labels) == (("a.png",), ("jay",))
    assert summary(decode(dataset.sources, SMALL, DecodeOptions(workers=0))) == [9]
