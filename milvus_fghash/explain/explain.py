"""A model and photos -> a folder with a page and its pictures, written completely or not at all."""

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
from milvus_fghash.encoding.decode_stream import RejectedSource
from milvus_fghash.encoding.graph_runs import ENCODE_TIMEOUT
from milvus_fghash.errors import ConfigError, DataError, optional_extra
from milvus_fghash.explain.album import PHOTOS, Album
from milvus_fghash.explain.bit_facts import bit_facts
from milvus_fghash.explain.bit_sources import bit_pushes
from milvus_fghash.explain.model import Model, distinct_names
from milvus_fghash.explain.occlusion import occlusion_view
from milvus_fghash.explain.page import MARK, BitPart, Contents, ModelPart, QueryPart, ViewFile, page, same_class
from milvus_fghash.explain.pictures import RIGHT, WRONG, montage, overlay
from milvus_fghash.explain.queries import QueryPhoto, named_queries, photos_of_split, sample_queries
from milvus_fghash.explain.retrieval import EncodedPhotos, encode, nearest

PAGE = "index.html"
TYPICAL_PHOTOS = 6
"""Number of photos shown of each side of a bit."""
FRAME_COLOURS = {True: RIGHT, False: WRONG, None: None}


@dataclass(frozen=True)
class ExplainOptions:
    """What to show.

    Attributes:
        query_split: queries are sampled from it.
        gallery_split: searched for the nearest photos.
        n_queries: number of sampled queries.
        images: photos to use as queries instead.
        k: number of nearest photos of each query.
        bits: bits to show; None: all.
        max_maps: number of attention maps of each query, at most.
    """

    query_split: str = "test"
    gallery_split: str = "train"
    n_queries: int = 8
    images: tuple[Path, ...] = ()
    k: int = 10
    bits: tuple[int, ...] | None = None
    max_maps: int = 12


@dataclass(frozen=True)
class ExplainResult:
    """What was written.

    Attributes:
        page: the HTML file.
        n_queries: queries on the page.
        n_gallery: photos of the gallery that could be read.
        n_bits: bits on the page.
        rejected: photos that could not be read.
    """

    page: Path
    n_queries: int
    n_gallery: int
    n_bits: int
    rejected: tuple[RejectedSource, ...]


@dataclass(frozen=True)
class EncodedModel:
    """A model, its name on the page, and its codes of queries and gallery."""

    model: Model
    name: str
    queries: EncodedPhotos
    gallery: EncodedPhotos


def explain(
    models: Sequence[Model],
    dataset: Dataset,
    out: Path,
    options: ExplainOptions = ExplainOptions(),
    *,
    dataset_name: str = "the photos",
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> ExplainResult:
    """Write the page of one model, or of two for comparison; the bits are those of the first.

    Args:
        models: one or two, see `open_model`.
        dataset: the photos.
        out: new folder for the page.
        options: what to show.
        dataset_name: name of the photos on the page.
        overwrite: replace a page in ``out``.
        progress: called while a gallery is encoded.

    Raises:
        DataError: when ``out`` exists, a split is missing, no query or no gallery photo can be read, photos change
            meanwhile, or a file cannot be written; nothing is written then.
        ConfigError: when the first model has no such bit, or both models are the same.
    """
    check_target(out, overwrite)
    dataset.keep_apart(out)
    if len({model.folder.resolve() for model in models}) < len(models):
        raise ConfigError(
            f"{models[0].path} is compared with itself; expected another bundle or checkpoint, or none, to see this "
            "one alone",
            setting="against",
        )
    bits = tuple(range(models[0].bits)) if options.bits is None else options.bits
    for bit in bits:
        if not 0 <= bit < models[0].bits:
            raise ConfigError(f"{models[0].path} has no bit {bit}; its bits are 0 to {models[0].bits - 1}")
    gallery, gallery_name = photos_of_split(dataset, options.gallery_split, dataset_name)
    if options.images:
        queries, queries_name = named_queries(dataset, options.images), "chosen by file name"
    else:
        photos, name = photos_of_split(dataset, options.query_split, dataset_name)
        queries, queries_name = sample_queries(photos, options.n_queries), f"sampled class by class from {name}"
    files = [gallery.file(row) for row in range(len(gallery))]
    encoded = [
        EncodedModel(
            model,
            name,
            _require_any(encode(model, [query.file for query in queries]), "query"),
            _require_any(encode(model, files, progress), "gallery"),
        )
        for model, name in zip(models, distinct_names(models), strict=True)
    ]
    for one in encoded[1:]:
        for before, now in ((encoded[0].queries, one.queries), (encoded[0].gallery, one.gallery)):
            if not np.array_equal(before.rows, now.rows):
                raise DataError("photos were added or removed while they were read; try again")
    try:
        with atomic_path(out.resolve()) as folder:
            (folder / PHOTOS).mkdir(parents=True)
            album = Album(folder, gallery, models[0].preprocessing)
            contents = Contents(
                models=models,
                names=[one.name for one in encoded],
                gallery=gallery,
                n_gallery=len(encoded[0].gallery.rows),
                gallery_name=gallery_name,
                queries_name=queries_name,
                queries=[
                    _query_part(album, encoded, index, queries[row], bits, options)
                    for index, row in enumerate(encoded[0].queries.rows)
                ],
                bits=[_bit_part(album, encoded[0], bit) for bit in bits],
                thumbnails=album.thumbnails,
                rejected=(*encoded[0].queries.rejected, *encoded[0].gallery.rejected),
            )
            (folder / PAGE).write_bytes(page(contents))
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror}") from error
    return ExplainResult(out / PAGE, len(contents.queries), contents.n_gallery, len(bits), tuple(contents.rejected))


def check_target(out: Path, overwrite: bool) -> None:
    """Reject a folder where no page may be written.

    Raises:
        DataError: when the path exists, or with ``overwrite`` holds anything but such a page.
    """
    if not out.exists():
        return
    if not overwrite:
        raise DataError(f"{out} exists; choose another folder, or overwrite it", setting="overwrite")
    ours = (out / PAGE).is_file() and MARK.encode() in read_bounded(out / PAGE, MAX_LIST_BYTES)
    if not ours or any(file.suffix != ".png" and file.name not in (PAGE, PHOTOS) for file in out.iterdir()):
        raise DataError(
            f"{out} holds files that explain did not write, so it is not overwritten; choose another folder"
        )


def _require_any(encoded: EncodedPhotos, role: str) -> EncodedPhotos:
    if not len(encoded.rows):
        first = encoded.rejected[0]
        message = first.message if first.path in first.message else f"{first.path}: {first.message}"
        raise DataError(f"none of the {len(encoded.rejected)} {role} photos can be read; the first: {message}")
    return encoded


def _query_part(
    album: Album,
    encoded: Sequence[EncodedModel],
    index: int,
    query: QueryPhoto,
    bits: Sequence[int],
    options: ExplainOptions,
) -> QueryPart:
    name = f"query-{index + 1:02d}"
    labels = album.gallery.labels
    in_common = set.intersection(*(set(one.model.descriptions) for one in encoded))
    parts = []
    for letter, one in zip("ab", encoded, strict=False):
        pixels = load(query.file, one.model.preprocessing)
        views = one.model.views(pixels, options.max_maps)
        # A checkpoint has no view in common with a bundle without attention; occlusion works for both.
        added = [] if in_common or "occlusion" in one.model.descriptions else [occlusion_view(one.model, pixels)]
        parts.append(
            ModelPart(
                [
                    ViewFile(
                        album.picture(f"{name}-{letter}{number}-{view.kind}", view.picture), view.kind, view.caption
                    )
                    for number, view in enumerate([*views.shown, *added], 1)
                ],
                views.left_out,
                nearest(one.queries.codes[[index]], one.gallery, album.gallery.ids, options.k, query.id),
            )
        )
    photo = load(query.file, album.preprocessing)
    rows = [
        [(photo, None), *((album.photo(row), FRAME_COLOURS[same_class(query.label, labels[row])]) for row in found)]
        for found in ([neighbour.row for neighbour in part.neighbours.photos] for part in parts)
    ]
    sheet = montage(rows, first_apart=True, names=[one.name for one in encoded])
    return QueryPart(query, album.picture(f"{name}-photo", photo), parts, album.picture(f"{name}-nearest", sheet))


def _bit_part(album: Album, encoded: EncodedModel, bit: int) -> BitPart:
    facts = bit_facts(bit, encoded.gallery, album.gallery.ids, album.gallery.labels, TYPICAL_PHOTOS)
    rows = (*facts.typical_on, *facts.typical_off)
    photos = {row: album.photo(row) for row in rows}
    heats = encoded.model.bit_heat(np.stack([photos[row] for row in rows]), bit) or ()
    overlays = {row: overlay(photos[row], heat) for row, heat in zip(rows, heats, strict=False)}
    name = f"bit-{bit:03d}"
    pushes = None
    if encoded.model.sources is not None and encoded.gallery.most_active is not None:
        pushes = bit_pushes(bit, encoded.model.sources, encoded.gallery.most_active)
        for push in (*pushes.clusters_on, *pushes.clusters_off):
            album.photo(push.example)  # writes the thumbnail
    sides = [
        [(pictures[row], None) for row in side if row in pictures]
        for side in (facts.typical_on, facts.typical_off)
        for pictures in (photos, overlays)
    ]
    return BitPart(
        facts=facts,
        heats={row: album.thumbnail(f"{name}-{row}", picture) for row, picture in overlays.items()},
        montage=album.picture(name, montage([side for side in sides if side])),
        pushes=pushes,
    )


def open_model(
    path: Path,
    *,
    provider: str | None = None,
    threads: int = 0,
    encode_timeout: float = ENCODE_TIMEOUT,
    device: str | None = None,
) -> Model:
    """Open a bundle, a checkpoint or a training.

    Args:
        path: the folder.
        provider: ONNX Runtime provider, for a bundle.
        threads: number of threads of ONNX Runtime, for a bundle.
        encode_timeout: seconds for a batch of photos, for a bundle.
        device: torch device, for a checkpoint; default: `cuda` if there is one.

    Raises:
        BundleError, ConfigError, TrainingError: when it cannot be read.
        MissingExtra: for a checkpoint without torch, or a bundle without ONNX Runtime.
    """
    if is_bundle(path):
        from milvus_fghash.explain.bundle_model import BundleModel

        return BundleModel(path, provider, threads, encode_timeout)
    with optional_extra("train"):
        from milvus_fghash.explain.checkpoint_model import CheckpointModel

    return CheckpointModel(path, device)
