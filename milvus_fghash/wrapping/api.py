"""`wrap`: an ONNX embedding model, its preprocessing and a few photos -> a bundle.

LSH and ITQ are fitted in NumPy and written as ONNX nodes, without torch; every other method is trained as `train` does
it, on the frozen model.
"""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from milvus_fghash._version import __version__
from milvus_fghash.bundle.bundle import Bundle, Description, fingerprint, reject_taken, write_bundle
from milvus_fghash.core.callbacks import Progress
from milvus_fghash.core.code_length import check_bits
from milvus_fghash.core.images import RULES, Preprocessing
from milvus_fghash.core.onnx_runtime import load_runtime
from milvus_fghash.datasets.read import Dataset, parse_location, read_dataset
from milvus_fghash.embedding_models.join import joined, opset_of
from milvus_fghash.embedding_models.model import EmbeddingModel, Features
from milvus_fghash.embedding_models.preprocessor import ModelInput, find_preprocessor, read_preprocessor, triple
from milvus_fghash.embedding_models.read import Pooling, read_embedding_model
from milvus_fghash.encoding.decode_options import DEFAULT_DECODE_OPTIONS, DecodeOptions
from milvus_fghash.encoding.decode_stream import RejectedSource
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import ConfigError, DataError, one_line, optional_extra
from milvus_fghash.exporters.check import check_logits
from milvus_fghash.exporters.pixels import check_pixels
from milvus_fghash.methods import ON_FEATURES_ALONE, card
from milvus_fghash.methods.affine import AffineProjection, ItqConfig, LshConfig, fit_itq, fit_lsh
from milvus_fghash.recipes.loader import compose
from milvus_fghash.wrapping.head import head_of

FITTED: Final = ("lsh", "itq")
"""Methods that need no torch."""
IR_VERSION: Final = 10
MAX_FLIP_RATE: Final = 1e-3
CHECKED_PHOTOS: Final = 64
PROBE_BITS: Final = 8
"""Length of the random codes of the bundle that computes the features."""


def wrap(
    model: str | Path,
    photos: str | Path | Dataset,
    *,
    out: str | Path,
    method: str = "itq",
    bits: int = 128,
    preprocessor: str | Path | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    output: str | None = None,
    pooling: Pooling | None = None,
    licence: str = "unknown",
    layout: str | None = None,
    split: str | None = None,
    sample: int = 20_000,
    seed: int = 0,
    options: DecodeOptions = DEFAULT_DECODE_OPTIONS,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> Bundle:
    """Make a bundle of an ONNX embedding model: the frozen backbone, and a head that is fitted on photos.

    Args:
        model: the ONNX file; one input of photos, float32 or float16, and an output of embeddings.
        photos: a folder, a list or a `Dataset` to fit on. `lsh` and `itq` use no labels and read any source; other
            methods need local files.
        out: folder of the bundle.
        method: ``itq`` or ``lsh``, which need no torch, or any other method that works on pooled features.
        bits: length of a code.
        preprocessor: `preprocessor_config.json` of the model. Default: the one beside the model or one folder above.
        preprocessing: what differs from it: ``size``, ``resize``, ``resize_mode`` (``shorter_side`` or ``stretch``),
            ``interpolation`` (``bilinear`` or ``bicubic``). Without a file, photos are resized to the model's size.
        mean: of each channel of RGB pixels in [0, 1]. Default: that of the file.
        std: by which the difference is divided. Default: that of the file.
        output: name of the model's output. Default: the only one, or one with a usual name.
        pooling: for an output of tokens: ``class-token`` or ``mean``.
        licence: of the model's weights, for the bundle.
        layout: layout of the photos, a key of `DATASETS`. Default: detected.
        split: the photos to fit on. Default: ``train`` where there is one, else all.
        sample: at most so many photos are fitted on by ``lsh`` and ``itq``, drawn at random.
        seed: of the sample and of the method.
        options: how photos are decoded for ``lsh`` and ``itq``.
        overwrite: replace a bundle at ``out``.
        progress: called with the number of photos embedded and their total.

    Returns:
        The bundle, verified.

    Raises:
        BundleError: when ``out`` is taken, or the graph does not give the codes that were fitted.
        CodeError: when the length of a code is not supported.
        ConfigError: when the model, its preprocessing or the method cannot be used, or ``out`` lies among the photos.
        DataError: when photos cannot be read, or are too few or too equal to fit the method.
        MissingExtra: when onnx, ONNX Runtime or, for other methods, torch is not installed.

    Examples:
        >>> import milvus_fghash as fg
        >>> fg.wrap("clip/model.onnx", "photos", out="bundles/clip", bits=128).manifest.method  # doctest: +SKIP
        'itq'
    """
    out, path = Path(out), Path(model)
    reject_taken(out, overwrite)
    check_bits(bits)
    if card(method).needs == "maps":
        raise ConfigError(
            f"{method} learns from maps, and an ONNX embedding model gives none; choose a method that works on pooled "
            "features, such as itq or posterior-itq",
            setting="method",
        )
    load_runtime()
    graph = read_embedding_model(path, output, pooling)
    embedding = EmbeddingModel.open(graph)
    taken = _model_input(path, preprocessor, embedding.side, preprocessing or {}, mean, std)
    dataset = photos if isinstance(photos, Dataset) else read_dataset(parse_location(photos), layout)
    named = split or ("train" if "train" in dataset.splits else None)
    dataset = dataset.split(named) if named else dataset
    dataset.keep_apart(out)
    encoder = _Wrapped(graph, embedding, taken, licence)
    if method not in FITTED:
        return _trained(encoder, method, bits, dataset, out, seed, overwrite)
    rows = np.random.default_rng(seed).permutation(len(dataset))[:sample]
    features, rejected = _features(encoder, dataset.take(np.sort(rows)), options, progress)
    if len(features) < 2:
        raise DataError(f"{len(features)} of {len(rows)} photos in {dataset.origin} can be read; expected at least two")
    method_options = {**compose("frozen", method).method.options, "seed": seed}
    config: LshConfig | ItqConfig
    if method == "lsh":
        config = LshConfig.model_validate(method_options)
        projection = fit_lsh(features, bits, config)
    else:
        config = ItqConfig.model_validate(method_options)
        projection = fit_itq(features, bits, config)
    record = {
        "method": {"name": method, "options": config.model_dump(mode="json")},
        "photos": len(features),
        "rejected": rejected,
        "weights": f"file {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}",
        "versions": {"milvus-fghash": __version__, "numpy": np.__version__},
    }
    return encoder.write(out, projection, method, record, overwrite=overwrite)


@dataclass(frozen=True)
class _Wrapped:
    """An embedding model with its preprocessing, to which a projection is joined."""

    graph: bytes
    model: EmbeddingModel
    taken: ModelInput
    licence: str

    def write(
        self,
        out: Path,
        projection: AffineProjection,
        method: str,
        record: dict[str, Any],
        *,
        overwrite: bool = False,
        compared: int = CHECKED_PHOTOS,
    ) -> Bundle:
        """Join, compare with NumPy on so many drawings, and write.

        Raises:
            BundleError: when the graph gives other codes, or ``out`` is taken.
        """
        bits, preprocessing = len(projection.weight), self.taken.preprocessing
        opset, outputs = opset_of(self.graph), ("logits", "codes", "embedding")
        whole = joined(
            self.graph, head_of(projection, opset), self.taken.mean, self.taken.std, preprocessing.size, bits, outputs,
            IR_VERSION,
        )  # fmt: skip
        pixels = check_pixels(preprocessing, compared)
        allowed = MAX_FLIP_RATE if compared == CHECKED_PHOTOS else 1.0  # a share of a few bits says nothing
        agreement = check_logits(projection.logits(self.embed(pixels)), whole, pixels, allowed)
        tensors: dict[str, NDArray[Any]] = {
            "trunk.graph": np.frombuffer(self.graph, np.uint8),
            "head.mean": projection.mean,
            "head.weight": projection.weight,
        }
        description = Description(
            method=method,
            lineage=uuid.uuid4().hex,
            fingerprint=fingerprint(tensors, preprocessing, self.taken.mean, self.taken.std, bits),
            bits=bits,
            preprocessing=preprocessing,
            rules=RULES,
            mean=self.taken.mean,
            std=self.taken.std,
            outputs=outputs,
            opset=opset,
            classes=0,
            training=record,
            weights_licence=self.licence,
            quality={},
            flip_rate=agreement.flip_rate,
            largest_difference=agreement.largest_difference,
            bits_compared=agreement.bits_compared,
        )
        return write_bundle(out, whole, description, overwrite=overwrite)

    def embed(self, pixels: NDArray[np.uint8]) -> Features:
        """(n, size, size, 3) -> (n, n_features), photo by photo and without the joined graph."""
        mean, std = np.array(self.taken.mean, np.float32), np.array(self.taken.std, np.float32)
        images = ((pixels.astype(np.float32) / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)
        return np.concatenate([self.model.features(np.ascontiguousarray(one[None])) for one in images])


def _features(encoder: _Wrapped, dataset: Dataset, options: DecodeOptions, progress: Progress) -> tuple[Features, int]:
    """The embeddings of the photos that can be read, and the number of the others."""
    rejected: list[RejectedSource] = []
    parts = [np.zeros((0, encoder.model.n_features), np.float32)]
    random = np.random.default_rng(0).standard_normal((PROBE_BITS, encoder.model.n_features))
    projection = AffineProjection.of(np.zeros(encoder.model.n_features), random, normalise=False)
    with tempfile.TemporaryDirectory() as folder:
        bundle = encoder.write(Path(folder) / "features", projection, "lsh", {}, compared=1)
        embedder = Encoder.open(bundle.path, "cpu", for_many=True)
        sources = map(options.sources_of(dataset), range(len(dataset)))
        encoded = embedder.encode_sources(
            sources, "embedding", reject=rejected.append, options=options.for_photos(len(dataset))
        )
        done = 0
        with closing(encoded):
            for group, (_, embeddings) in encoded:
                parts.append(embeddings)
                done += len(group)
                progress(done + len(rejected), len(dataset))
    return np.concatenate(parts), len(rejected)


def _trained(
    encoder: _Wrapped, method: str, bits: int, dataset: Dataset, out: Path, seed: int, overwrite: bool
) -> Bundle:
    """The same by `train` and `export`, for methods of torch."""
    with optional_extra("train"):
        import onnx

        from milvus_fghash.exporters.onnx_bundle import export
        from milvus_fghash.training.api import train
    with tempfile.TemporaryDirectory() as folder:
        model = onnx.load_from_string(encoder.graph)
        taken = encoder.taken
        metadata = {"mean": _text(taken.mean), "std": _text(taken.std), "licence": encoder.licence}
        onnx.helper.set_model_props(model, metadata)
        file = Path(folder) / "model.onnx"
        onnx.save(model, file)
        changes = [f"backbone.{key}={value}" for key, value in (("name", "onnx"), ("frozen", "true"))]
        changes += ON_FEATURES_ALONE.get(method, ())
        changes += [f"preprocessing.{key}={value}" for key, value in taken.preprocessing.model_dump().items()]
        dataset = replace(dataset, splits=("",) * len(dataset))  # all of these are fitted on
        run = Path(folder) / "run"
        checkpoint = train(f"frozen-{method}", dataset, out=run, bits=bits, weights=file, changes=changes, seed=seed)
        return export(checkpoint, out, outputs=("embedding",), overwrite=overwrite)


def _text(values: Sequence[float]) -> str:
    return ",".join(map(repr, values))


def _model_input(
    model: Path,
    preprocessor: str | Path | None,
    side: int | None,
    given: Mapping[str, Any],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> ModelInput:
    """Preprocessing and normalisation of a model: what is given, then its file, then plain resizing.

    Raises:
        ConfigError: when nothing says how photos are normalised, or a value is wrong.
    """
    file = Path(preprocessor) if preprocessor else find_preprocessor(model)
    found = read_preprocessor(file) if file else None
    if found is None and (mean is None or std is None):
        raise ConfigError(
            f"nothing says how photos are normalised for {model}; give mean and std, or put the "
            "preprocessor_config.json of the model beside it",
            setting="mean std preprocessor",
        )
    size = given.get("size") or (found.preprocessing.size if found else side or 224)
    values: dict[str, Any] = found.preprocessing.model_dump() if found else {"resize_mode": "stretch", "resize": size}
    if found and "size" in given:
        values["resize"] = round(found.preprocessing.resize * size / found.preprocessing.size)
    if given.get("resize_mode") == "stretch":
        values["resize"] = size
    try:
        preprocessing = Preprocessing.model_validate({**values, "size": size, **given})
        normalisation = (
            triple(mean if mean is not None else found.mean if found else None),
            triple(std if std is not None else found.std if found else None),
        )
        if min(normalisation[1]) <= 0:
            raise ValueError(f"std must be above 0, got {normalisation[1]}")
    except (ValueError, TypeError, ValidationError) as error:
        raise ConfigError(f"the preprocessing cannot be used: {one_line(error)}", setting="size mean std") from None
    if side not in (None, preprocessing.size):
        raise ConfigError(f"{model} takes photos of {side} x {side} pixels, not {preprocessing.size}", setting="size")
    return ModelInput(preprocessing, *normalisation)
