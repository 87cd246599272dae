"""All that a page shows, before it is HTML. File names are relative to the page, and made by us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.encoding.decode_stream import Rejected
from milvus_fghash.explain.bit_facts import BitFacts
from milvus_fghash.explain.model import Model
from milvus_fghash.explain.queries import Query
from milvus_fghash.explain.retrieval import Retrieved


@dataclass(frozen=True)
class Shown:
    """A view's file, and what is said of it."""

    file: str
    kind: str
    caption: str


@dataclass(frozen=True)
class QueryPart:
    """One query: its photo, and for each model its views and what it finds."""

    query: Query
    photo: str
    views: Sequence[Sequence[Shown]]
    left_out: Sequence[str]
    """Of each model, a sentence on maps that are not shown, or ""."""
    found: Sequence[Retrieved]
    picture: str
    """All rows as one picture."""


@dataclass(frozen=True)
class BitPart:
    """One bit of the first model."""

    facts: BitFacts
    heats: Mapping[int, str]
    """Row of a typical photo -> the picture of what holds it on its side; empty for models that cannot say."""
    picture: str
    """Both sides as one picture."""


@dataclass(frozen=True)
class Contents:
    """The page."""

    models: Sequence[Model]
    names: Sequence[str]
    """What they are called here; no two alike."""
    gallery: Dataset
    n_gallery: int
    """Photos of the gallery that could be read."""
    gallery_name: str
    queries_name: str
    queries: Sequence[QueryPart]
    bits: Sequence[BitPart]
    photos: Mapping[int, str]
    """Row of the gallery -> its picture."""
    rejected: Sequence[Rejected]
