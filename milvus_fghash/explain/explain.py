"""A model and photos -> a folder with a page and its pictures, whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from milvus_fghash.bundle.bundle import is_bundle
from milvus_fghash.core.atomic_io import atomic_path
from milvus_fghash.core.bounded_file import MAX_LIST_BYTES, read_bounded
from milvus_fghash.core.callbacks import Progress
from milvus_fghash.core.images import load
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.encoding.decode_stream import Rejected
from milvus_fghash.encoding.graph_runs import ENCODE_TIMEOUT
from milvus_fghash.errors import ConfigError, DataError, optional_extra
from milvus_fghash.explain.bit_facts import bit_facts
from milvus_fghash.explain.contents import BitPart, Contents, QueryPart, Shown
from milvus_fghash.explain.html.page import MARK, page
from milvus_fghash.explain.html.pictures_folder import PHOTOS, Album
from milvus_fghash.explain.html.queries import verdict
from milvus_fghash.explain.model import Model, told_apart
from milvus_fghash.explain.occlusion import hidden_view
from milvus_fghash.explain.pictures import RIGHT, WRONG, montage, overlay
from milvus_fghash.explain.queries import Query, drawn, given, part_of
from milvus_fghash.explain.retrieval import Coded, encode, nearest

PAGE = "index.html"
TYPICAL = 6
"""Photos shown of each side of a bit."""
FRAMES = {"right": RIGHT, "wrong": WRONG, "": None}


@dataclass(frozen=True)
class ExplainOptions:
    """What to show."""

    query_split: str = "test"
    """Where queries are drawn from."""
    gallery_split: str = "train"
    queries: int = 8
    """Number drawn, where no ``images`` are given."""
    images: tuple[Path, ...] = ()
    """Photos that ask instead."""
    hits: int = 10
    """Nearest photos of each query."""
    bits: tuple[int, ...] | None = None
    """Bits to show; None: all."""
    maps: int = 12
    """Attention maps of each query, at most."""


@dataclass(frozen=True)
class Explained:
    """What was written."""

    page: Path
    n_queries: int
    n_gallery: int
    n_bits: int
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True)
class Seen:
    """A model, its name beside the others, and what it makes of the queries and of the gallery."""

    model: Model
    name: str
    queries: Coded
    gallery: Coded


def explain(
    models: Sequence[Model],
    dataset: Dataset,
    out: Path,
    wanted: ExplainOptions = ExplainOptions(),
    *,
    dataset_name: str = "the photos",
    overwrite: bool = False,
    report: Progress = lambda done, total: None,
) -> Explained:
    """Write the page of a model, or of two beside each other; the bits are those of the first.

    Args:
        dataset: what the photos are called on the page.
        report: told while a gallery is encoded: photos done, photos in all.

    Raises:
        DataError: when ``out`` is taken, a split is missing, no query or no photo of the gallery can be read, photos
            change meanwhile, or the disk rejects; nothing is written then.
        ConfigError: when the first model has no such bit, or stands beside itself.
    """
    reject_taken(out, overwrite)
    dataset.keep_apart(out)
    if len({model.folder.resolve() for model in models}) < len(models):
        raise ConfigError(
            f"{models[0].path} is compared with itself; expected another bundle or checkpoint, or none, to see this "
            "one alone",
            setting="against",
        )
    bits = tuple(range(models[0].bits)) if wanted.bits is None else wanted.bits
    for bit in bits:
        if not 0 <= bit < models[0].bits:
            raise ConfigError(f"{models[0].path} has no bit {bit}; its bits are 0 to {models[0].bits - 1}")
    gallery, gallery_name = part_of(dataset, wanted.gallery_split, dataset_name)
    if wanted.images:
        queries, chosen = given(dataset, wanted.images), "given by name"
    else:
        asked, asked_name = part_of(dataset, wanted.query_split, dataset_name)
        queries, chosen = drawn(asked, wanted.queries), f"drawn class by class from {asked_name}"
    files = [gallery.file(row) for row in range(len(gallery))]
    seen = [
        Seen(
            model,
            name,
            _some(encode(model, [one.file for one in queries]), "query"),
            _some(encode(model, files, report), "gallery"),
        )
        for model, name in zip(models, told_apart(models), strict=True)
    ]
    for one in seen[1:]:
        for before, now in ((seen[0].queries, one.queries), (seen[0].gallery, one.gallery)):
            if not np.array_equal(before.rows, now.rows):
                raise DataError("photos came or went while they were read; try again")
    try:
        with atomic_path(out.resolve()) as folder:
            (folder / PHOTOS).mkdir(parents=True)
            album = Album(folder, gallery, models[0].preprocessing)
            contents = Contents(
                models=models,
                names=[one.name for one in seen],
                gallery=gallery,
                n_gallery=len(seen[0].gallery.rows),
                gallery_name=gallery_name,
                queries_name=chosen,
                queries=[
                    _query_part(album, seen, place, queries[row], bits, wanted)
                    for place, row in enumerate(seen[0].queries.rows)
                ],
                bits=[_bit_part(album, seen[0], bit) for bit in bits],
                photos=album.photos,
                rejected=(*seen[0].queries.rejected, *seen[0].gallery.rejected),
            )
            (folder / PAGE).write_bytes(page(contents))
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror}") from error
    return Explained(out / PAGE, len(contents.queries), contents.n_gallery, len(bits), tuple(contents.rejected))


def reject_taken(out: Path, overwrite: bool) -> None:
    """Reject a folder where no page may be written.

    Raises:
        DataError: when something stands there, or with ``overwrite`` something that is no such page.
    """
    if not out.exists():
        return
    if not overwrite:
        raise DataError(f"{out} exists; choose another folder, or overwrite it", setting="overwrite")
    ours = (out / PAGE).is_file() and MARK.encode() in read_bounded(out / PAGE, MAX_LIST_BYTES)
    if not ours or any(file.suffix != ".png" and file.name not in (PAGE, PHOTOS) for file in out.iterdir()):
        raise DataError(f"{out} holds something else than a page of explain, so it is not overwritten")


def _some(coded: Coded, role: str) -> Coded:
    if not len(coded.rows):
        first = coded.rejected[0]
        named = first.message if first.path in first.message else f"{first.path}: {first.message}"
        raise DataError(f"none of the {len(coded.rejected)} {role} photos can be read; the first: {named}")
    return coded


def _query_part(
    album: Album, seen: Sequence[Seen], place: int, query: Query, bits: Sequence[int], wanted: ExplainOptions
) -> QueryPart:
    name = f"query-{place + 1:02d}"
    labels = album.gallery.labels
    in_common = set.intersection(*(set(one.model.readings) for one in seen))
    views, left_out, found = [], [], []
    for letter, one in zip("ab", seen, strict=False):
        pixels = load(query.file, one.model.preprocessing)
        seen_as = one.model.views(pixels, wanted.maps)
        # A bundle without attention shows nothing that a checkpoint does; what it shows needs answers alone
        added = [] if in_common or "hidden" in one.model.readings else [hidden_view(one.model, pixels)]
        views.append(
            [
                Shown(album.picture(f"{name}-{letter}{number}-{view.kind}", view.picture), view.kind, view.caption)
                for number, view in enumerate([*seen_as.shown, *added], 1)
            ]
        )
        left_out.append(seen_as.left_out)
        found.append(nearest(one.queries.codes[[place]], one.gallery, album.gallery.ids, wanted.hits, query.id))
    photo = load(query.file, album.preprocessing)
    rows = [
        [(photo, None), *((album.photo(hit.row), FRAMES[verdict(query.label, labels[hit.row])]) for hit in one.hits)]
        for one in found
    ]
    return QueryPart(
        query=query,
        photo=album.picture(f"{name}-photo", photo),
        views=views,
        left_out=left_out,
        found=found,
        picture=album.picture(f"{name}-found", montage(rows, apart=True, names=[one.name for one in seen])),
    )


def _bit_part(album: Album, seen: Seen, bit: int) -> BitPart:
    facts = bit_facts(bit, seen.gallery, album.gallery.ids, album.gallery.labels, TYPICAL)
    rows = (*facts.typical_on, *facts.typical_off)
    photos = {row: album.photo(row) for row in rows}
    heats = seen.model.bit_heat(np.stack([photos[row] for row in rows]), bit) or ()
    overlays = {row: overlay(photos[row], heat) for row, heat in zip(rows, heats, strict=False)}
    name = f"bit-{bit:03d}"
    sides = [
        [(shown[row], None) for row in side if row in shown]
        for side in (facts.typical_on, facts.typical_off)
        for shown in (photos, overlays)
    ]
    return BitPart(
        facts=facts,
        heats={row: album.small(f"{name}-{row}", one) for row, one in overlays.items()},
        picture=album.picture(name, montage([side for side in sides if side])),
    )


def open_model(
    path: Path,
    *,
    provider: str | None = None,
    threads: int = 0,
    encode_timeout: float = ENCODE_TIMEOUT,
    device: str | None = None,
) -> Model:
    """A bundle's folder, or that of a checkpoint or a training.

    Args:
        provider, threads: of ONNX Runtime, for a bundle.
        encode_timeout: seconds for a batch of photos, for a bundle.
        device: of torch, for a checkpoint; default: `cuda` if there is one.

    Raises:
        BundleError, ConfigError, TrainingError: when it cannot be read.
        MissingExtra: for a checkpoint without torch, a bundle without ONNX Runtime.
    """
    if is_bundle(path):
        from milvus_fghash.explain.bundle_model import BundleModel

        return BundleModel(path, provider, threads, encode_timeout)
    with optional_extra("train"):
        from milvus_fghash.explain.checkpoint_model import CheckpointModel

    return CheckpointModel(path, device)
