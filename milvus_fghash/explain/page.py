"""The page: its values, and the texts made from them. The HTML is in page.html."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from milvus_fghash.core.html import Picture, counted, readable, render
from milvus_fghash.core.labels import class_names, share_label
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.encoding.decode_stream import RejectedSource
from milvus_fghash.explain import occlusion
from milvus_fghash.explain.bit_facts import BitFacts
from milvus_fghash.explain.bit_sources import BitPushes, Push
from milvus_fghash.explain.model import Model, percent
from milvus_fghash.explain.queries import QueryPhoto
from milvus_fghash.explain.retrieval import Neighbours

MARK: Final = '<meta name="generator" content="milvus-fghash explain">'
"""Identifies a page of this command."""
CLASSES_IN_TITLE = 3
"""Classes named for each side of a bit."""


@dataclass(frozen=True)
class ViewFile:
    """A view of a query, written to a file beside the page."""

    file: str
    kind: str
    caption: str


@dataclass(frozen=True)
class ModelPart:
    """What one model shows for one query."""

    views: Sequence[ViewFile]
    left_out: str
    """A sentence on attention maps that are not shown, or ""."""
    neighbours: Neighbours


@dataclass(frozen=True)
class QueryPart:
    """One query, with a part for each model."""

    query: QueryPhoto
    photo: str
    parts: Sequence[ModelPart]
    montage: str
    """The nearest photos of all models as one picture."""


@dataclass(frozen=True)
class BitPart:
    """One bit of the first model."""

    facts: BitFacts
    heats: Mapping[int, str]
    """Row of a typical photo -> file of its heat map; empty for models that have none."""
    montage: str
    """Both sides as one picture."""
    pushes: BitPushes | None = None
    """What moves the bit, for models that tell."""


@dataclass(frozen=True)
class Contents:
    """Everything the page shows. Files are relative to the page."""

    models: Sequence[Model]
    names: Sequence[str]
    """Distinct names of the models."""
    gallery: Dataset
    n_gallery: int
    """Number of gallery photos that could be read."""
    gallery_name: str
    queries_name: str
    queries: Sequence[QueryPart]
    bits: Sequence[BitPart]
    thumbnails: Mapping[int, str]
    """Row of the gallery -> its file."""
    rejected: Sequence[RejectedSource]

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Terms and values for the head of the page."""
        terms = ("Model", "Second model")
        facts = [
            (term, f"{name}; {model.kind} {model.path}, training {model.lineage}")
            for term, name, model in zip(terms, self.names, self.models, strict=False)
        ]
        classes = counted(len(class_names(self.gallery.labels)), "class", "classes")
        facts += [
            ("Gallery", f"{counted(self.n_gallery, 'photo')} of {classes}: {self.gallery_name}"),
            ("Queries", f"{counted(len(self.queries), 'photo')}: {self.queries_name}"),
        ]
        return facts + [(f"Not shown{where}", "; ".join(what)) for where, what in self._unavailable()]

    def _unavailable(self) -> Iterator[tuple[str, Sequence[str]]]:
        for name, model in zip(self.names, self.models, strict=True):
            if model.unavailable:
                yield (f" for {name}" if len(self.models) > 1 else ""), model.unavailable

    @property
    def descriptions(self) -> list[tuple[str, str]]:
        """Kinds of views and how to read them; twice where two models differ."""
        pairs = [(kind.capitalize(), text) for model in self.models for kind, text in model.descriptions.items()]
        if any(view.kind == "occlusion" for query in self.queries for part in query.parts for view in part.views):
            pairs.append(("Occlusion", occlusion.DESCRIPTION))
        return list(dict.fromkeys(pairs))

    def n_same_class(self, query: QueryPhoto, neighbours: Neighbours) -> int:
        return sum(share_label(self.gallery.labels[photo.row], query.label) for photo in neighbours.photos)

    def photo(self, row: int, alt: str) -> Picture:
        """The thumbnail of a gallery photo."""
        return Picture(self.thumbnails[row], alt)


def page(contents: Contents) -> bytes:
    """The page as UTF-8."""
    return render(
        "explain/page.html",
        title="What " + " and ".join(contents.names) + " learned",
        contents=contents,
        Picture=Picture,
        side_title=side_title,
        percent=percent,
        class_pushes=class_pushes,
        same_class=same_class,
    )


def same_class(wanted: str, label: str) -> bool | None:
    """Whether two photos are of one class, or share a label; None if the label of one of them is unknown."""
    return share_label(label, wanted) if wanted and label else None


def class_pushes(pushes: Sequence[Push]) -> str:
    """Classes that move a bit and by how much, in a line."""
    return ", ".join(f"{readable(push.name)} ({push.shown_value})" for push in pushes)


def side_title(facts: BitFacts, side: str) -> str:
    """The classes of one side of a bit, "on" or "off", in a line."""
    labels, share = (facts.on_for, facts.on) if side == "on" else (facts.off_for, 1 - facts.on)
    if facts.on in (0, 1):
        return f"Always {side}" if share == 1 else f"Never {side}"
    if not facts.classes:
        return f"{side.capitalize()} in {percent(share)} of the photos"
    if not labels:
        return f"{side.capitalize()} for single photos only"
    more = len(labels) - CLASSES_IN_TITLE
    names = ", ".join(map(readable, labels[:CLASSES_IN_TITLE]))
    return f"{side.capitalize()} for {names}" + (f" and {more} more" if more > 0 else "")
