"""`milvus-fghash inspect`: describe a bundle, a checkpoint or a collection."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from milvus_fghash.cli.options.common import json_option
from milvus_fghash.cli.options.connection import Connection, milvus_options
from milvus_fghash.cli.options.paths import READABLE_FOLDER
from milvus_fghash.cli.terminal.output import show
from milvus_fghash.errors import optional_extra


@click.command()
@click.argument("path", type=READABLE_FOLDER, required=False)
@milvus_options
@json_option
def inspect(path: Path | None, connection: Connection, as_json: bool) -> None:
    """Describe a bundle, a checkpoint or a collection.

    PATH is a bundle or a checkpoint; without it, the collection in Milvus is described.

    \b
    Example: milvus-fghash inspect bundles/birds
             milvus-fghash inspect --collection-name photos
    """
    if path is None:
        kind, facts = "collection", _collection(connection)
    elif (path / "bundle.json").exists():
        kind, facts = "bundle", _bundle(path)
    else:
        kind, facts = "checkpoint", _checkpoint(path)
    show({"kind": kind, **facts}, as_json)


def _bundle(path: Path) -> dict[str, Any]:
    from milvus_fghash.bundle.bundle import read_bundle

    return read_bundle(path).manifest.model_dump(mode="json")


def _checkpoint(path: Path) -> dict[str, Any]:
    with optional_extra("train"):
        from milvus_fghash.training.checkpoint import load_checkpoint
    loaded = load_checkpoint(path)
    return {
        "path": str(loaded.path),
        "method": loaded.state.recipe.method.name,
        "lineage": loaded.state.lineage,
        "bits": loaded.state.bits,
        "classes": len(loaded.state.classes),
        "weights_licence": loaded.state.weights_licence,
        **loaded.record,
    }


def _collection(connection: Connection) -> dict[str, Any]:
    from milvus_fghash.milvus.aliases import all_aliases
    from milvus_fghash.milvus.collection import HashCollection

    with closing(connection.connect()) as client:
        found = HashCollection.open(client, connection.collection_name)
        return {
            "name": found.name,
            "aliases": [alias for alias, name in all_aliases(client).items() if name == found.name],
            **found.metadata.model_dump(mode="json"),
            "rows": found.count(),
            "index": found.index,
            "nlist": found.nlist,
            "consistency": found.consistency,
            "code_hex": found.has_code_hex,
            "embedding_dim": found.embedding_dim,
            "phash": found.has_phash,
            "columns": {column.name: column.type for column in found.columns},
            "partition_key": found.partition_key,
        }
