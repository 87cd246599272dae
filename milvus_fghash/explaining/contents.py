"""All that a page shows, before it is HTML. File names are relative to the page, and made by us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from milvus_fghash.data.listing import Listing
from milvus_fghash.explaining.bit_facts import BitFacts
from milvus_fghash.explaining.model import Model
from milvus_fghash.explaining.queries import Query
from milvus_fghash.explaining.retrieval import Found
from milvus_fghash.serving.decoding import Refused


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
    found: Sequence[Found]
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
    gallery: Listing
    n_gallery: int
    """Photos of the gallery that could be read."""
    gallery_name: str
    queries_name: str
    queries: Sequence[QueryPart]
    bits: Sequence[BitPart]
    photos: Mapping[int, str]
    """Row of the gallery -> its picture."""
    refused: Sequence[Refused]
