"""Shards into a bucket; Milvus is told their names as it knows them."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from milvus_fghash.bulk_import.upload import Bucket, in_place
from milvus_fghash.errors import ConfigError, MissingExtra, StoreError
from tests.helpers.s3_server import Store


def test_a_name_is_relative_to_the_bucket(tmp_path: Path) -> None:
    (tmp_path / "shard.parquet").write_bytes(b"rows")
    assert Bucket("memory://milvus-bucket/some/shards").put(tmp_path / "shard.parquet") == "some/shards/shard.parquet"
    files: Any = import_module("fsspec").filesystem("memory")
    assert files.cat_file("/milvus-bucket/some/shards/shard.parquet") == b"rows"


def test_a_bucket_of_s3_gets_the_bytes_again_when_asked_again(store: Store, bucket: str, tmp_path: Path) -> None:
    for rows in (b"rows", b"others"):
        (tmp_path / "shard.parquet").write_bytes(rows)
        assert Bucket(f"s3://{bucket}/some/shards/").put(tmp_path / "shard.parquet") == "some/shards/shard.parquet"
        assert store.fs.cat_file(f"{bucket}/some/shards/shard.parquet") == rows
    assert Bucket(f"s3://{bucket}").put(tmp_path / "shard.parquet") == "shard.parquet"


def test_a_bucket_of_s3_that_is_not_there_is_told_and_not_made(store: Store, tmp_path: Path) -> None:
    (tmp_path / "shard.parquet").write_bytes(b"rows")
    with pytest.raises(StoreError, match=r"cannot copy .* to s3://no-such-bucket/shards"):
        Bucket("s3://no-such-bucket/shards").put(tmp_path / "shard.parquet")
    assert not store.fs.exists("no-such-bucket")


def test_a_folder_is_a_bucket_too(tmp_path: Path) -> None:
    (tmp_path / "shard.parquet").write_bytes(b"rows")
    there = Bucket(f"file://{tmp_path}/bucket").put(tmp_path / "shard.parquet")
    assert there == str(tmp_path / "bucket" / "shard.parquet")
    assert Path(there).read_bytes() == b"rows"


def test_a_bucket_that_rejects_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot copy"):
        Bucket(f"file://{tmp_path}/file").put(tmp_path / "file")


@pytest.mark.parametrize(
    ("url", "message"), [("bucket", "must be a URL such as"), ("nowhere://bucket", "cannot use the")]
)
def test_what_is_no_bucket_is_rejected(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Bucket(url)


@pytest.mark.parametrize(("url", "extra"), [("s3://bucket", "s3"), ("gs://bucket", "gcs"), ("memory://x", "http")])
def test_a_missing_package_is_named_by_its_extra(url: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtra, match=rf"milvus-fghash\[{extra}\]"):
        Bucket(url)


def test_without_a_bucket_milvus_reads_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert in_place(Path("shards/x.parquet")) == str(tmp_path / "shards" / "x.parquet")
