"""A folder of small photos, and shards of 16 of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from milvus_fghash.bulk_import.shards.builder import ShardOptions, ShardsResult, build_shards
from milvus_fghash.bulk_import.shards.folder import ShardFolder
from milvus_fghash.datasets.read import read
from milvus_fghash.encoding.encoder import Encoder

SIXTEEN = ShardOptions(shard_rows=16, workers=0)


@dataclass(frozen=True)
class SmallShards:
    """40 photos make three shards."""

    encoder: Encoder
    photos: Path
    path: Path

    @property
    def folder(self) -> ShardFolder:
        return ShardFolder(self.path)

    def build(self, namespace: str = "", engine: Any = None, stop: Any = None, **options: Any) -> ShardsResult:
        more = {"engine": engine} if engine else {}
        dataset, asked = read("folder", self.photos), replace(SIXTEEN, **options)
        return build_shards(self.encoder, dataset, self.folder, namespace, asked, stop=stop, **more)

    def files(self) -> dict[str, bytes]:
        """Name -> content of the shards and their markers."""
        return {path.name: path.read_bytes() for path in sorted(self.path.glob("shard-*"))}

    def names(self) -> list[str]:
        """Of the shards, in order."""
        manifest = self.folder.manifest()
        assert manifest is not None
        return [one.name for one in manifest.shards]
