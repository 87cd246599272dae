"""Fine-grained deep hashing for Milvus: train, export, ingest and search photos by binary codes.

All public names are here: ``import milvus_fghash as fg``. Each is loaded on first use (PEP 562), so the import is cheap
and searching needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from milvus_fghash._version import __version__

if TYPE_CHECKING:
    from milvus_fghash.advice.api import advise as advise
    from milvus_fghash.advice.result import Advice as Advice
    from milvus_fghash.bulk_import.api import ImportOptions as ImportOptions
    from milvus_fghash.bulk_import.api import ImportResult as ImportResult
    from milvus_fghash.bulk_import.api import RayOptions as RayOptions
    from milvus_fghash.bulk_import.api import ShardOptions as ShardOptions
    from milvus_fghash.bulk_import.api import ShardsResult as ShardsResult
    from milvus_fghash.bulk_import.api import build_shards as build_shards
    from milvus_fghash.bulk_import.api import import_shards as import_shards
    from milvus_fghash.bundle.bundle import Bundle as Bundle
    from milvus_fghash.bundle.bundle import read_bundle as read_bundle
    from milvus_fghash.catalog import AddResult as AddResult
    from milvus_fghash.catalog import Catalog as Catalog
    from milvus_fghash.catalog import RepairResult as RepairResult
    from milvus_fghash.datasets.read import DATASETS as DATASETS
    from milvus_fghash.datasets.read import Dataset as Dataset
    from milvus_fghash.datasets.read import Selection as Selection
    from milvus_fghash.datasets.read import Url as Url
    from milvus_fghash.datasets.read import read_dataset as read_dataset
    from milvus_fghash.dedupe.report import Duplicates as Duplicates
    from milvus_fghash.encoding.decode_options import DecodeOptions as DecodeOptions
    from milvus_fghash.encoding.decode_result import Rejected as Rejected
    from milvus_fghash.encoding.encoder import Encoded as Encoded
    from milvus_fghash.encoding.encoder import Encoder as Encoder
    from milvus_fghash.errors import BundleError as BundleError
    from milvus_fghash.errors import CodeError as CodeError
    from milvus_fghash.errors import ConfigError as ConfigError
    from milvus_fghash.errors import DataError as DataError
    from milvus_fghash.errors import FghashError as FghashError
    from milvus_fghash.errors import ImageRejected as ImageRejected
    from milvus_fghash.errors import Inconsistent as Inconsistent
    from milvus_fghash.errors import MissingExtra as MissingExtra
    from milvus_fghash.errors import NotFinite as NotFinite
    from milvus_fghash.errors import Stopped as Stopped
    from milvus_fghash.errors import StoreBusy as StoreBusy
    from milvus_fghash.errors import StoreError as StoreError
    from milvus_fghash.errors import TooManyDeleted as TooManyDeleted
    from milvus_fghash.errors import TrainingError as TrainingError
    from milvus_fghash.evaluation.record import Evaluation as Evaluation
    from milvus_fghash.exporters.onnx_bundle import export as export
    from milvus_fghash.ingest.delete import Deletion as Deletion
    from milvus_fghash.ingest.options import IngestOptions as IngestOptions
    from milvus_fghash.ingest.options import IngestResult as IngestResult
    from milvus_fghash.ingest.verify import Finding as Finding
    from milvus_fghash.ingest.verify import Verification as Verification
    from milvus_fghash.migration.alias_client import AliasClient as AliasClient
    from milvus_fghash.migration.promote import AliasChange as AliasChange
    from milvus_fghash.migration.reindex import Reindexed as Reindexed
    from milvus_fghash.migration.reindex import Sample as Sample
    from milvus_fghash.milvus.collection import HashCollection as HashCollection
    from milvus_fghash.milvus.connection import ConnectionConfig as ConnectionConfig
    from milvus_fghash.milvus.filters import all_of as all_of
    from milvus_fghash.milvus.retry import RetryPolicy as RetryPolicy
    from milvus_fghash.milvus.rows import Row as Row
    from milvus_fghash.milvus.rows import Rows as Rows
    from milvus_fghash.milvus.settings import CollectionSettings as CollectionSettings
    from milvus_fghash.recipes.loader import load_recipe as load_recipe
    from milvus_fghash.recipes.loader import recipe_names as recipe_names
    from milvus_fghash.recipes.schema import Recipe as Recipe
    from milvus_fghash.search.search import Hit as Hit
    from milvus_fghash.search.search import SearchParams as SearchParams
    from milvus_fghash.search.search import SearchResult as SearchResult
    from milvus_fghash.training.api import train as train
    from milvus_fghash.training.run import Watcher as Watcher
    from milvus_fghash.wrapping.api import wrap as wrap

_MODULES: Final = {
    "milvus_fghash.advice.api": ("advise",),
    "milvus_fghash.advice.result": ("Advice",),
    "milvus_fghash.bulk_import.api": (
        "ImportOptions",
        "ImportResult",
        "RayOptions",
        "ShardOptions",
        "ShardsResult",
        "build_shards",
        "import_shards",
    ),
    "milvus_fghash.bundle.bundle": ("Bundle", "read_bundle"),
    "milvus_fghash.catalog": ("AddResult", "Catalog", "RepairResult"),
    "milvus_fghash.recipes.schema": ("Recipe",),
    "milvus_fghash.datasets.read": ("DATASETS", "Dataset", "Selection", "Url", "read_dataset"),
    "milvus_fghash.dedupe.report": ("Duplicates",),
    "milvus_fghash.errors": (
        "BundleError",
        "CodeError",
        "ConfigError",
        "DataError",
        "FghashError",
        "ImageRejected",
        "MissingExtra",
        "NotFinite",
        "Inconsistent",
        "Stopped",
        "StoreBusy",
        "StoreError",
        "TooManyDeleted",
        "TrainingError",
    ),
    "milvus_fghash.evaluation.record": ("Evaluation",),
    "milvus_fghash.exporters.onnx_bundle": ("export",),
    "milvus_fghash.recipes.loader": ("load_recipe", "recipe_names"),
    "milvus_fghash.milvus.collection": ("HashCollection",),
    "milvus_fghash.milvus.settings": ("CollectionSettings",),
    "milvus_fghash.ingest.delete": ("Deletion",),
    "milvus_fghash.encoding.decode_options": ("DecodeOptions",),
    "milvus_fghash.encoding.decode_result": ("Rejected",),
    "milvus_fghash.encoding.encoder": ("Encoded", "Encoder"),
    "milvus_fghash.milvus.filters": ("all_of",),
    "milvus_fghash.migration.alias_client": ("AliasClient",),
    "milvus_fghash.ingest.options": ("IngestOptions", "IngestResult"),
    "milvus_fghash.milvus.retry": ("RetryPolicy",),
    "milvus_fghash.migration.promote": ("AliasChange",),
    "milvus_fghash.migration.reindex": ("Reindexed", "Sample"),
    "milvus_fghash.milvus.rows": ("Row", "Rows"),
    "milvus_fghash.search.search": ("SearchResult", "Hit", "SearchParams"),
    "milvus_fghash.milvus.connection": ("ConnectionConfig",),
    "milvus_fghash.ingest.verify": ("Finding", "Verification"),
    "milvus_fghash.training.api": ("train",),
    "milvus_fghash.training.run": ("Watcher",),
    "milvus_fghash.wrapping.api": ("wrap",),
}
"""Module -> its public names. The imports above are for type checkers; a test compares the two."""
_MODULE_OF: Final = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE_OF)]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _MODULE_OF[name]
    if module.startswith(("milvus_fghash.training", "milvus_fghash.exporters", "milvus_fghash.advice.api")):
        from milvus_fghash.errors import optional_extra

        with optional_extra("train"):
            import_module(module)
    value = getattr(import_module(module), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return __all__
