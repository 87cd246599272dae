"""A bundle at work: photos or pixels -> codes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milvus_fghash.bundle.bundle import Bundle, read_bundle
from milvus_fghash.core.callbacks import Progress
from milvus_fghash.core.codes import Codes, check_codes, code_bytes, pack
from milvus_fghash.core.images import DEFAULT_LIMITS, Limits, load, prepare, upright_rgb
from milvus_fghash.datasets.in_memory import ImageLike, source_of
from milvus_fghash.datasets.sources.location import PhotoLocation, Source
from milvus_fghash.datasets.sources.reader import read_source
from milvus_fghash.encoding.decode_options import DEFAULT_DECODE_OPTIONS, DecodeOptions
from milvus_fghash.encoding.decode_stream import Photo, Rejected, RejectedSource, batches, decode
from milvus_fghash.encoding.graph_runs import ENCODE_TIMEOUT, GraphRuns, check_timeout
from milvus_fghash.encoding.session import open_session
from milvus_fghash.errors import BundleError, CodeError, ConfigError, ImageRejected, check_not_string

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

STORED: Final = ("logits", "embedding")
"""Outputs that codes are made of, or that Milvus keeps: each value must be a number."""
NAMED: Final = 5
"""Photos that one message names."""
T = TypeVar("T")


@dataclass(frozen=True)
class Encoded:
    """What became of a list of files.

    Attributes:
        codes: (n_kept, n_bytes).
        rows: (n_kept,) int64, positions of the kept files in the list.
        content_shas: (n_kept,) SHA-256 of the kept files, hexadecimal.
        rejected: the others.
        phashes: (n_kept,) perceptual hashes of the kept photos.
    """

    codes: Codes
    rows: NDArray[np.int64]
    content_shas: tuple[str, ...]
    rejected: tuple[RejectedSource, ...]
    phashes: tuple[int, ...] = ()


@dataclass
class EncodedColumns:
    """Encoded photos, column by column, as they grow group by group.

    Attributes:
        rows: positions of the photos among those that were decoded.
        content_shas: SHA-256 of the files.
        phashes: perceptual hashes.
    """

    _outputs: list[tuple[NDArray[Any], ...]]
    """Of each group; the first is of none, and says the widths."""
    rows: list[int] = field(default_factory=list)
    content_shas: list[str] = field(default_factory=list)
    phashes: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, photos: Sequence[Photo], outputs: tuple[NDArray[Any], ...]) -> None:
        """Append a group of `Encoder.encode_sources`."""
        self._outputs.append(outputs)
        self.rows += [photo.row for photo in photos]
        self.content_shas += [photo.content_sha for photo in photos]
        self.phashes += [photo.phash for photo in photos]

    @property
    def outputs(self) -> tuple[NDArray[Any], ...]:
        """(n, ...) codes, and the further outputs."""
        return tuple(np.concatenate(column) for column in zip(*self._outputs, strict=True))


@dataclass(frozen=True)
class Encoder:
    """Photos -> codes with ONNX Runtime. Also fits where pymilvus.model wants an embedding function.

    Not to be sent to another process: open it there.
    """

    bundle: Bundle
    session: InferenceSession
    batch_size: int = 4
    """Photos computed together. More costs memory and loses speed on a CPU."""
    streams: int = 1
    """Batches computed side by side in `encode_batches`."""
    encode_timeout: float = ENCODE_TIMEOUT
    """Seconds after which a batch is ended."""

    @classmethod
    def open(
        cls,
        bundle_path: Path,
        provider: str | None = None,
        threads: int = 0,
        batch_size: int | None = None,
        *,
        for_many: bool = False,
        encode_timeout: float = ENCODE_TIMEOUT,
    ) -> Encoder:
        """Read, verify and load a bundle, and encode two pictures to try it; `open_session` explains ``provider``.

        Args:
            threads: that compute on a CPU; 0: one for each core.
            batch_size: photos computed together; by default 4 on a CPU, 64 elsewhere.
            for_many: for a catalog: each thread computes photos of its own, which is faster for many than if all
                share in every photo, and slower for a single one.
            encode_timeout: seconds after which a batch is ended, for a graph may compute for ever.

        Raises:
            BundleError: as `read_bundle` and `open_session`, and when the graph gives no numbers, or the same for every
                picture.
            ConfigError, MissingExtra: as `open_session`.
        """
        check_timeout(encode_timeout)
        bundle = read_bundle(Path(bundle_path))
        session = open_session(bundle, provider, 1 if for_many else threads)
        if session.get_providers()[0] == "CPUExecutionProvider":
            size, streams = batch_size or 4, (threads or os.cpu_count() or 1) if for_many else 1
        else:
            size, streams = batch_size or 64, 2 if for_many else 1  # one is brought there as one computes
        encoder = cls(bundle, session, size, streams, encode_timeout)
        encoder._try_out()
        return encoder

    @property
    def bits(self) -> int:
        """Length of a code."""
        return self.bundle.manifest.bits

    @property
    def dim(self) -> int:
        """Bits a code takes in Milvus: the length rounded up to whole bytes."""
        return 8 * code_bytes(self.bits)

    @property
    def provider(self) -> str:
        """Where ONNX Runtime computes, such as CPUExecutionProvider."""
        return str(self.session.get_providers()[0])

    @property
    def embedding_dim(self) -> int | None:
        """Length of the bundle's embedding; None when it has none."""
        shapes = {one.name: one.shape for one in self.session.get_outputs()}
        return int(shapes["embedding"][1]) if "embedding" in shapes else None

    def empty_columns(self, *more: str) -> EncodedColumns:
        """Columns of no photos: of the codes, and of further outputs as in `run`."""
        widths = {"logits": self.bits, "embedding": self.embedding_dim or 0}
        codes = np.zeros((0, code_bytes(self.bits)), np.uint8)
        return EncodedColumns([(codes, *(np.zeros((0, widths[name]), np.float32) for name in more))])

    def check_embedding(self) -> None:
        """Reject a bundle that gives no embedding, for who is to keep it.

        Raises:
            ConfigError: when it gives none.
        """
        if self.embedding_dim is None:
            raise ConfigError(f"the bundle {self.bundle.path} gives no embedding; export it again with one")

    def encode_pixels(self, images: NDArray[np.uint8]) -> Codes:
        """(n, size, size, 3) RGB as `images.prepare` makes it -> (n, n_bytes); raises as `run`."""
        return cast(Codes, self.run(images)[0])

    def run(self, images: NDArray[np.uint8], *more: str) -> tuple[NDArray[Any], ...]:
        """(n, size, size, 3) RGB -> the codes, and further outputs by name such as "logits" or "embedding".

        Raises:
            CodeError: when type or shape of the images are not those the graph takes.
            BundleError: when the graph fails, needs more than its time, or gives something that is no code: outputs
                that are not finite, or codes that are not the signs of the logits.
        """
        with closing(self._side_by_side([images], lambda images: images, more, ahead=1)) as computed:
            return next(computed)[1]

    def encode_batches(
        self, groups: Iterable[Sequence[Photo]], *more: str, ahead: int | None = None
    ) -> Generator[tuple[Sequence[Photo], tuple[NDArray[Any], ...]], None, None]:
        """Groups of photos beside what `run` makes of each, in order, ``streams`` of them computed side by side.

        Args:
            more: further outputs, as in `run`.
            ahead: groups that are asked for before the first of them is given; by default one more than streams, so
                that none of these waits while the next group is decoded.
        """
        ahead = self.streams + 1 if ahead is None else ahead
        return self._side_by_side(groups, lambda group: np.stack([photo.pixels for photo in group]), more, ahead)

    def _side_by_side(
        self, groups: Iterable[T], pixels: Callable[[T], NDArray[np.uint8]], more: Sequence[str], ahead: int
    ) -> Generator[tuple[T, tuple[NDArray[Any], ...]], None, None]:
        """Computes in threads: this one stays free to hear Ctrl-C. Whoever stops early ends what is under way."""
        runs = GraphRuns(self.session, self.bundle.path, self.encode_timeout)
        waiting: deque[tuple[T, Future[tuple[NDArray[Any], ...]]]] = deque()
        pool = ThreadPoolExecutor(self.streams, "encode")
        try:
            for group in groups:
                waiting.append((group, pool.submit(lambda group: self._compute(runs, pixels(group), more), group)))
                if len(waiting) >= ahead:
                    first, computed = waiting.popleft()
                    yield first, computed.result()
            for first, computed in waiting:
                yield first, computed.result()
        finally:
            runs.end()
            pool.shutdown(cancel_futures=True)

    def _compute(self, runs: GraphRuns, images: NDArray[np.uint8], more: Sequence[str]) -> tuple[NDArray[Any], ...]:
        """What `run` gives, in the calling thread."""
        side = self.bundle.manifest.preprocessing.size
        if images.dtype != np.uint8 or images.shape[1:] != (side, side, 3):
            raise CodeError(
                f"images must be uint8 of shape (n, {side}, {side}, 3), got {images.dtype} of shape {images.shape}"
            )
        if not len(images):  # graphs need not take an empty batch: compute one photo and give none of it
            return tuple(column[:0] for column in self._compute(runs, np.zeros((1, side, side, 3), np.uint8), more))
        starts = range(0, len(images), self.batch_size)
        parts = [self._compute_batch(runs, images[start : start + self.batch_size], more) for start in starts]
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def _compute_batch(self, runs: GraphRuns, images: NDArray[np.uint8], more: Sequence[str]) -> list[NDArray[Any]]:
        outputs = runs.run(images, tuple(dict.fromkeys(("codes", "logits", *more))))
        for name in STORED:
            if name in outputs and not np.isfinite(outputs[name]).all():
                odd = np.count_nonzero(~np.isfinite(outputs[name]))
                raise BundleError(
                    f"{self.bundle.path} gives {name} that are not finite ({odd} of {outputs[name].size} values), so "
                    "the codes mean nothing; export the model again, from a checkpoint before its training went wrong"
                )
        try:
            codes = check_codes(outputs["codes"], self.bits)
        except CodeError as error:
            raise BundleError(f"{self.bundle.path} gives no codes: {error}; export the model again") from error
        if len(codes) != len(images):
            raise BundleError(f"{self.bundle.path} gives {len(codes)} codes for {len(images)} images")
        if not np.array_equal(codes, pack(outputs["logits"])):
            raise BundleError(
                f"the codes of {self.bundle.path} are not the signs of its logits; export the model again"
            )
        return [codes, *(outputs[name] for name in more)]

    def _try_out(self) -> None:
        """Two pictures that have nothing in common must not give the same outputs, to the last digit."""
        side = self.bundle.manifest.preprocessing.size
        picture = np.random.default_rng(0).integers(0, 200, (side, side, 3), np.uint8)
        _, logits = self.run(np.stack([picture, 255 - picture]), "logits")
        if np.array_equal(logits[0], logits[1]):
            raise BundleError(
                f"{self.bundle.path} gives the same outputs for any photo, so the codes mean nothing; export the model "
                "again, from a checkpoint before its training went wrong"
            )

    def encode_sources(
        self,
        sources: Iterable[Source],
        *more: str,
        reject: Callable[[RejectedSource], object],
        wanted: Callable[[Photo], bool] = lambda photo: True,
        options: DecodeOptions = DEFAULT_DECODE_OPTIONS,
        together: int | None = None,
        ahead: int | None = None,
    ) -> Generator[tuple[Sequence[Photo], tuple[NDArray[Any], ...]], None, None]:
        """`encode_batches` of photos that are decoded meanwhile, as by `decode`.

        Args:
            reject: called with each that cannot be decoded.
            wanted: asked of each that is; what is not wanted is not encoded.
            together: photos of a batch; by default ``batch_size``.
            more, ahead: as in `encode_batches`.
        """
        preprocessing = self.bundle.manifest.preprocessing
        with closing(decode(sources, preprocessing, options)) as decoded:
            kept = (one for one in decoded if isinstance(one, Rejected) or wanted(one))
            groups = batches(kept, together or self.batch_size, reject)
            with closing(self.encode_batches(groups, *more, ahead=ahead)) as encoded:
                yield from encoded

    def encode_files(
        self,
        paths: Sequence[Source],
        options: DecodeOptions = DEFAULT_DECODE_OPTIONS,
        *,
        progress: Progress = lambda done, total: None,
    ) -> Encoded:
        """Files and places -> codes; those that cannot be decoded are listed, not raised.

        Args:
            workers: processes that decode, as in `decode`; by default none for a few files (`workers_for`).
            timeout: seconds for one photo, where there are workers.
            progress: called with the number of photos done, and of all.

        Raises:
            ConfigError: when no worker starts.
            CodeError, BundleError: as `run`.
        """
        rejected: list[RejectedSource] = []
        columns = self.empty_columns()
        options = options.for_photos(len(paths))
        with closing(self.encode_sources(paths, reject=rejected.append, options=options)) as encoded:
            for photos, outputs in encoded:
                columns.add(photos, outputs)
                progress(len(columns) + len(rejected), len(paths))
        return Encoded(
            columns.outputs[0],
            np.array(columns.rows, np.int64),
            tuple(columns.content_shas),
            tuple(rejected),
            tuple(columns.phashes),
        )

    def encode_image(self, image: ImageLike, limits: Limits = DEFAULT_LIMITS) -> Codes:
        """One photo -> (1, n_bytes).

        Raises:
            ImageRejected: when it cannot be decoded.
            CodeError: when an array is no RGB image.
        """
        return self.encode_pixels(self._pixels(image, limits)[None])

    def encode_documents(self, images: Sequence[ImageLike]) -> list[bytes]:
        """One code for each photo, as Milvus takes them in a BINARY_VECTOR field.

        `encode_files` goes on without those that cannot be decoded.

        Raises:
            ImageRejected: when photos cannot be decoded; all of them are named, after all others were encoded.
            ConfigError: for a single text in place of a sequence.
            CodeError: when an array is no RGB image.
        """
        codes: list[bytes] = []
        rejected: list[tuple[int, ImageRejected]] = []
        for number, image in enumerate(check_not_string(images, "the photos")):
            try:
                codes.append(self.encode_image(image).tobytes())
            except ImageRejected as error:
                rejected.append((number, error))
        if rejected:
            named = "; ".join(f"number {number}: {error}" for number, error in rejected[:NAMED])
            more = f"; and {len(rejected) - NAMED:,} more" if len(rejected) > NAMED else ""
            raise ImageRejected(
                rejected[0][1].reason,
                f"{len(rejected):,} of {len(images):,} photos cannot be encoded ({named}{more}); leave them out",
            )
        return codes

    def encode_queries(self, images: Sequence[ImageLike]) -> list[bytes]:
        """The same as `encode_documents`: photos in a catalogue and queries are encoded alike."""
        return self.encode_documents(images)

    def __call__(self, images: Sequence[ImageLike]) -> list[bytes]:
        return self.encode_documents(images)

    def _pixels(self, image: ImageLike, limits: Limits) -> NDArray[np.uint8]:
        preprocessing = self.bundle.manifest.preprocessing
        source = source_of(image)
        if isinstance(source, Image.Image):
            return prepare(upright_rgb(source), preprocessing)
        if isinstance(source, PhotoLocation):
            source = read_source(source, limits.max_bytes)
        return load(source, preprocessing, limits)
