"""Fine-grained deep hashing for Milvus: train, export, ingest and search photos by binary codes."""

from milvus_fghash._version import __version__

__all__ = ["__version__"]
