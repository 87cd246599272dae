"""The encoder of a bundle: photos or pixels -> codes."""

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
from milvus_fghash.datasets.in_memory import ImageLike, to_source
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
"""Outputs from which codes are computed or that Milvus stores: all values must be finite."""
MAX_NAMED_PHOTOS: Final = 5
"""Rejected photos that one message names."""
T = TypeVar("T")


@dataclass(frozen=True)
class Encoded:
    """The codes of a list of photos, as `Encoder.encode_files` returns them.

    Attributes:
        codes: (n_kept, n_bytes) uint8.
        rows: (n_kept,) int64, positions of the encoded photos in the list.
        content_shas: (n_kept,) SHA-256 of the encoded files, hexadecimal.
        rejected: the other photos, each with its position ``row`` in the list.
        phashes: (n_kept,) perceptual hashes of the encoded photos.
        embedding: (n_kept, n_features) float32 features before the hash head, if they were asked for.
    """

    codes: Codes
    rows: NDArray[np.int64]
    content_shas: tuple[str, ...]
    rejected: tuple[RejectedSource, ...]
    phashes: tuple[int, ...] = ()
    embedding: NDArray[np.float32] | None = None


@dataclass
class EncodedColumns:
    """Columns of encoded photos, to which groups are appended.

    Attributes:
        rows: positions of the photos among those that were decoded.
        content_shas: SHA-256 of the files.
        phashes: perceptual hashes.
    """

    _outputs: list[tuple[NDArray[Any], ...]]
    """Of each group; the first group is empty and gives the widths."""
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


def opposite_photos(side: int) -> NDArray[np.uint8]:
    """Noise and its negative, (2, side, side, 3): an encoder that gives both one output does so for every photo."""
    picture = np.random.default_rng(0).integers(0, 200, (side, side, 3), np.uint8)
    return np.stack([picture, 255 - picture])


@dataclass(frozen=True)
class Encoder:
    """Photos -> codes with ONNX Runtime; also an embedding function for pymilvus. Make one with `open`.

    Open one in each process: it cannot be sent to another.

    Attributes:
        bundle: the bundle that encodes.
        session: the session of ONNX Runtime.
        batch_size: photos that are computed together. More cost memory and are slower on a CPU.
        streams: batches that are computed at the same time.
        encode_timeout: seconds after which the computation of a batch is ended.

    Examples:
        >>> import milvus_fghash as fg
        >>> encoder = fg.Encoder.open("bundles/birds")  # doctest: +SKIP
        >>> encoder.encode_documents(["robin.jpg", "wren.jpg"])  # doctest: +SKIP
    """

    bundle: Bundle
    session: InferenceSession
    batch_size: int = 4
    streams: int = 1
    encode_timeout: float = ENCODE_TIMEOUT

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
        """Read, verify and load a bundle, and encode two images to test it.

        Args:
            bundle_path: folder of the bundle.
            provider: such as ``cpu``, ``cuda`` or ``CUDAExecutionProvider``. Default: CUDA where it works, else CPU.
            threads: CPU threads. 0: one per core.
            batch_size: photos that are computed together. Default: 4 on a CPU, 64 elsewhere.
            for_many: let each thread compute photos of its own, which is faster for many photos and slower for a single
                one.
            encode_timeout: seconds after which the computation of a batch is ended: a graph can compute forever.

        Returns:
            The encoder.

        Raises:
            BundleError: when the bundle is damaged, its graph cannot be loaded, or its outputs are not finite or the
                same for every image.
            ConfigError: when the provider is unknown or does not start, or the time limit is out of range.
            MissingExtra: when ONNX Runtime is not installed.
        """
        check_timeout(encode_timeout)
        bundle = read_bundle(Path(bundle_path))
        session = open_session(bundle, provider, 1 if for_many else threads)
        if session.get_providers()[0] == "CPUExecutionProvider":
            size, streams = batch_size or 4, (threads or os.cpu_count() or 1) if for_many else 1
        else:
            size, streams = (
                batch_size or 64,
                2 if for_many else 1,
            )  # one is copied while the other is computed
        encoder = cls(bundle, session, size, streams, encode_timeout)
        encoder._self_test()
        return encoder

    @property
    def bits(self) -> int:
        """Length of a code in bits."""
        return self.bundle.manifest.bits

    @property
    def dim(self) -> int:
        """Dimension of the vector in Milvus: the bits, rounded up to whole bytes."""
        return 8 * code_bytes(self.bits)

    @property
    def provider(self) -> str:
        """The provider on which ONNX Runtime computes, such as ``CPUExecutionProvider``."""
        return str(self.session.get_providers()[0])

    @property
    def embedding_dim(self) -> int | None:
        """Length of the bundle's embedding; None when the bundle has none."""
        shapes = {one.name: one.shape for one in self.session.get_outputs()}
        return int(shapes["embedding"][1]) if "embedding" in shapes else None

    def empty_columns(self, *more: str) -> EncodedColumns:
        """The encoded columns of no photos.

        Args:
            more: further outputs, as in `run`.

        Returns:
            Codes and outputs of length 0.
        """
        widths = {"logits": self.bits, "embedding": self.embedding_dim or 0}
        codes = np.zeros((0, code_bytes(self.bits)), np.uint8)
        return EncodedColumns([(codes, *(np.zeros((0, widths[name]), np.float32) for name in more))])

    def check_embedding(self) -> None:
        """Reject a bundle without an embedding.

        Raises:
            ConfigError: when the bundle has none.
        """
        if self.embedding_dim is None:
            raise ConfigError(f"the bundle {self.bundle.path} has no embedding; export it again with one")

    def encode_pixels(self, images: NDArray[np.uint8]) -> Codes:
        """Encode prepared pixels.

        Args:
            images: (n, size, size, 3) uint8 RGB.

        Returns:
            (n, n_bytes) uint8.

        Raises:
            CodeError, BundleError: like `run`.
        """
        return cast(Codes, self.run(images)[0])

    def run(self, images: NDArray[np.uint8], *more: str) -> tuple[NDArray[Any], ...]:
        """Encode prepared pixels, and return further outputs.

        Args:
            images: (n, size, size, 3) uint8 RGB.
            more: names of further outputs, such as ``logits`` or ``embedding``.

        Returns:
            The codes, (n, n_bytes) uint8, and the further outputs, (n, width) float32.

        Raises:
            CodeError: when the images have another type or shape.
            BundleError: when the graph fails, exceeds the time limit, or returns invalid values: outputs that are not
                finite, or codes that are not the signs of the logits.
        """
        with closing(self._run_groups([images], lambda images: images, more, ahead=1)) as computed:
            return next(computed)[1]

    def encode_batches(
        self, groups: Iterable[Sequence[Photo]], *more: str, ahead: int | None = None
    ) -> Generator[tuple[Sequence[Photo], tuple[NDArray[Any], ...]], None, None]:
        """Encode groups of photos, ``streams`` of them at the same time.

        Args:
            groups: decoded photos.
            more: names of further outputs, as in `run`.
            ahead: groups that are read before the first one is returned. Default: one more than streams, so that none
                of these waits while the next group is decoded.

        Returns:
            An iterator over the groups, in order, each with what `run` returns for it.
        """
        ahead = self.streams + 1 if ahead is None else ahead
        return self._run_groups(groups, lambda group: np.stack([photo.pixels for photo in group]), more, ahead)

    def _run_groups(
        self, groups: Iterable[T], pixels: Callable[[T], NDArray[np.uint8]], more: Sequence[str], ahead: int
    ) -> Generator[tuple[T, tuple[NDArray[Any], ...]], None, None]:
        """Compute in threads, so that this one can react to Ctrl-C. A caller that stops early ends running batches."""
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
        """`run` in the calling thread."""
        side = self.bundle.manifest.preprocessing.size
        if images.dtype != np.uint8 or images.shape[1:] != (side, side, 3):
            raise CodeError(
                f"images must be uint8 of shape (n, {side}, {side}, 3), got {images.dtype} of shape {images.shape}"
            )
        if not len(images):  # a graph need not accept an empty batch: compute one photo and return no row of it
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
                    f"{self.bundle.path} returns {name} that are not finite ({odd} of {outputs[name].size} values), so "
                    "its codes are invalid; export the model again, from a checkpoint before its training went wrong"
                )
        try:
            codes = check_codes(outputs["codes"], self.bits)
        except CodeError as error:
            raise BundleError(f"{self.bundle.path} returns invalid codes: {error}; export the model again") from error
        if len(codes) != len(images):
            raise BundleError(
                f"{self.bundle.path} returns {len(codes)} codes for {len(images)} images; export the model again"
            )
        if not np.array_equal(codes, pack(outputs["logits"])):
            raise BundleError(
                f"the codes of {self.bundle.path} are not the signs of its logits; export the model again"
            )
        return [codes, *(outputs[name] for name in more)]

    def _self_test(self) -> None:
        """The two photos of `opposite_photos` must not have identical outputs."""
        _, logits = self.run(opposite_photos(self.bundle.manifest.preprocessing.size), "logits")
        if np.array_equal(logits[0], logits[1]):
            raise BundleError(
                f"{self.bundle.path} returns the same outputs for any photo, so its codes are invalid; export the "
                "model again, from a checkpoint before its training went wrong"
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
        """Decode photos and encode them with `encode_batches`, both at the same time.

        Args:
            sources: files, locations and images in memory.
            more, ahead: as in `encode_batches`.
            reject: called with each photo that cannot be decoded.
            wanted: whether a decoded photo is to be encoded.
            options: how the photos are decoded.
            together: photos of a group. Default: ``batch_size``.

        Returns:
            As `encode_batches`.
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
        embedding: bool = False,
        progress: Progress = lambda done, total: None,
    ) -> Encoded:
        """Encode a list of photos; those that cannot be decoded are reported, not raised.

        Args:
            paths: files and locations.
            options: how the photos are decoded. By default, a few photos are decoded in this process.
            embedding: also return the embedding, which `embedding_dim` says that the bundle has.
            progress: called with the number of photos done, and the total.

        Returns:
            The codes of all photos that could be decoded, and the rejected ones.

        Raises:
            ConfigError: when no worker starts.
            BundleError: when the graph fails or exceeds the time limit.

        Examples:
            >>> from pathlib import Path
            >>> import milvus_fghash as fg
            >>> encoder = fg.Encoder.open("bundles/birds")  # doctest: +SKIP
            >>> encoder.encode_files(sorted(Path("photos").iterdir())).codes.shape  # doctest: +SKIP
        """
        options = options.for_photos(len(paths))
        rejected: list[RejectedSource] = []
        more = ("embedding",) if embedding else ()
        columns = self.empty_columns(*more)
        with closing(self.encode_sources(paths, *more, reject=rejected.append, options=options)) as encoded:
            for photos, outputs in encoded:
                columns.add(photos, outputs)
                progress(len(columns) + len(rejected), len(paths))
        codes, *features = columns.outputs
        return Encoded(
            codes,
            np.array(columns.rows, np.int64),
            tuple(columns.content_shas),
            tuple(rejected),
            tuple(columns.phashes),
            features[0] if embedding else None,
        )

    def encode_image(self, image: ImageLike, limits: Limits = DEFAULT_LIMITS) -> Codes:
        """Encode one photo.

        Args:
            image: file, URL, bytes of a file, Pillow image, or (h, w, 3) uint8 RGB pixels.
            limits: of the bytes and pixels of the photo.

        Returns:
            (1, n_bytes) uint8.

        Raises:
            ImageRejected: when the photo cannot be decoded.
            CodeError: when an array is not an RGB image.
            BundleError: when the graph fails or exceeds the time limit.
        """
        return self.encode_pixels(self._pixels(image, limits)[None])

    def encode_documents(self, images: Sequence[ImageLike]) -> list[bytes]:
        """Encode photos as values of a BINARY_VECTOR field; `encode_files` skips photos that cannot be decoded.

        Args:
            images: as in `encode_image`.

        Returns:
            One code of n_bytes per photo.

        Raises:
            ImageRejected: when photos cannot be decoded, after all others were encoded.
            ConfigError: for a single text instead of a sequence.
            CodeError: when an array is not an RGB image.
            BundleError: when the graph fails or exceeds the time limit.
        """
        codes: list[bytes] = []
        rejected: list[tuple[int, ImageRejected]] = []
        for number, image in enumerate(check_not_string(images, "the photos")):
            try:
                codes.append(self.encode_image(image).tobytes())
            except ImageRejected as error:
                rejected.append((number, error))
        if rejected:
            named = "; ".join(f"number {number}: {error}" for number, error in rejected[:MAX_NAMED_PHOTOS])
            more = f"; and {len(rejected) - MAX_NAMED_PHOTOS:,} more" if len(rejected) > MAX_NAMED_PHOTOS else ""
            raise ImageRejected(
                rejected[0][1].reason,
                f"{len(rejected):,} of {len(images):,} photos cannot be encoded ({named}{more}); leave them out",
            )
        return codes

    def encode_queries(self, images: Sequence[ImageLike]) -> list[bytes]:
        """Same as `encode_documents`: stored photos and queries are encoded alike.

        Args:
            images: as in `encode_documents`.

        Returns:
            One code of n_bytes per photo.
        """
        return self.encode_documents(images)

    def __call__(self, images: Sequence[ImageLike]) -> list[bytes]:
        """Same as `encode_documents`.

        Args:
            images: as in `encode_documents`.

        Returns:
            One code of n_bytes per photo.
        """
        return self.encode_documents(images)

    def _pixels(self, image: ImageLike, limits: Limits) -> NDArray[np.uint8]:
        preprocessing = self.bundle.manifest.preprocessing
        source = to_source(image)
        if isinstance(source, Image.Image):
            return prepare(upright_rgb(source), preprocessing)
        if isinstance(source, PhotoLocation):
            source = read_source(source, limits.max_bytes)
        return load(source, preprocessing, limits)
