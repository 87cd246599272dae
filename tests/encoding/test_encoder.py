"""Codes from a real ONNX graph against NumPy, and what is rejected."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from milvus_fghash.core.codes import pack
from milvus_fghash.core.images import load
from milvus_fghash.datasets.in_memory import ImageLike
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.decode_stream import Photo
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.encoding.graph_runs import GraphRuns
from milvus_fghash.errors import BundleError, CodeError, ImageRejected
from tests.helpers.small_bundle import SIDE, random_images, reference, write_small_bundle


@pytest.mark.parametrize("bits", [8, 12, 48, 250])
@pytest.mark.parametrize("n", [0, 1, 8, 19])
def test_codes_are_numpys(tmp_path: Path, bits: int, n: int) -> None:
    encoder = Encoder.open(write_small_bundle(tmp_path / "bundle", bits))
    images = random_images(n)
    codes = encoder.encode_pixels(images)
    assert codes.shape == (n, (bits + 7) // 8)
    assert codes.tolist() == reference(images, bits).tolist()


def test_further_outputs_come_with_the_codes(tmp_path: Path) -> None:
    encoder = Encoder.open(write_small_bundle(tmp_path / "bundle", outputs=("logits", "codes", "embedding")))
    images = random_images(11)
    codes, embedding, logits = encoder.run(images, "embedding", "logits")
    assert encoder.embedding_dim == 3
    assert embedding == pytest.approx(images.mean(axis=(1, 2)) - 127.5, abs=1e-3)
    assert pack(logits).tolist() == codes.tolist()


def test_no_embedding_is_said_as_none(bundle: Path) -> None:
    assert Encoder.open(bundle).embedding_dim is None


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, SIDE, SIDE, 3), np.float32),
        np.zeros((2, SIDE, SIDE), np.uint8),
        np.zeros((2, SIDE, SIDE + 1, 3), np.uint8),
        np.zeros((2, 3, SIDE, SIDE), np.uint8),
    ],
)
def test_pixels_of_another_type_or_shape_are_rejected(bundle: Path, images: NDArray[np.uint8]) -> None:
    with pytest.raises(CodeError, match=r"images must be uint8 of shape \(n, 16, 16, 3\)"):
        Encoder.open(bundle).encode_pixels(images)


def test_spare_bits_that_are_set_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="the last 4 bits of a 12-bit code must be 0"):
        Encoder.open(write_small_bundle(tmp_path / "bundle", dirty=True))


@pytest.mark.parametrize("workers", [None, 2])
def test_files_keep_their_order_and_rejected_ones_are_listed(bundle: Path, tmp_path: Path, workers: int | None) -> None:
    images = random_images(40)
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    paths[3].write_bytes(b"")
    paths[20].write_text("no picture")
    paths[39].unlink()
    encoded = Encoder.open(bundle).encode_files(paths, DecodeOptions(workers=workers))
    kept = [row for row in range(40) if row not in (3, 20, 39)]
    assert encoded.rows.tolist() == kept
    assert encoded.codes.tolist() == reference(images[kept], 12).tolist()
    assert [(one.path, one.reason, one.row) for one in encoded.rejected] == [
        (str(paths[3]), "empty", 3),
        (str(paths[20]), "format", 20),
        (str(paths[39]), "missing", 39),
    ]


@pytest.mark.parametrize(("streams", "ahead"), [(1, None), (1, 1), (3, None), (3, 2), (3, 7)])
def test_batches_come_back_in_order_and_are_computed_side_by_side(
    bundle: Path, streams: int, ahead: int | None
) -> None:
    images = random_images(41)
    photos = [Photo(row, image, "") for row, image in enumerate(images)]
    asked, given, running, most = 0, 0, 0, 0
    lock = threading.Lock()

    class Watched(Encoder):
        def _compute(self, runs: GraphRuns, images: NDArray[np.uint8], more: Sequence[str]) -> tuple[NDArray[Any], ...]:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.01 * (int(images[0, 0, 0, 0]) % 3))  # some are overtaken
            with lock:
                running -= 1
            return super()._compute(runs, images, more)

    def groups() -> Iterator[list[Photo]]:
        nonlocal asked
        for start in range(0, 41, 4):
            asked += 1
            assert asked - given <= (streams + 1 if ahead is None else ahead)
            yield photos[start : start + 4]

    encoder = Watched(**vars(replace(Encoder.open(bundle), streams=streams)))
    rows, codes = [], []
    for group, outputs in encoder.encode_batches(groups(), "logits", ahead=ahead):
        given += 1
        rows += [photo.row for photo in group]
        codes += outputs[0].tolist()
        assert pack(outputs[1]).tolist() == outputs[0].tolist()
    assert rows == list(range(41))
    assert codes == reference(images, 12).tolist()
    assert most == min(streams, ahead or streams)


def test_an_error_of_a_batch_is_raised_and_ends_the_others(bundle: Path) -> None:
    photos = [Photo(row, image, "") for row, image in enumerate(random_images(8))]
    photos[5] = replace(photos[5], pixels=np.zeros((3, 3, 3), np.uint8))
    encoder = replace(Encoder.open(bundle), streams=2)
    with pytest.raises(CodeError, match="images must be uint8"):
        list(encoder.encode_batches([photo] for photo in photos))


def test_threads_take_photos_of_their_own_for_many(bundle: Path) -> None:
    assert Encoder.open(bundle, threads=3).streams == 1
    assert Encoder.open(bundle, threads=3, for_many=True).streams == 3
    many = Encoder.open(bundle, for_many=True)
    assert many.streams == os.cpu_count()
    assert many.session.get_session_options().intra_op_num_threads == 1


def test_no_files_give_no_codes(bundle: Path) -> None:
    encoded = Encoder.open(bundle).encode_files([])
    assert encoded.codes.shape == (0, 2)
    assert encoded.rows.shape == (0,)


def test_a_photo_is_the_same_in_every_form(bundle: Path, tmp_path: Path) -> None:
    encoder = Encoder.open(bundle)
    path = tmp_path / "photo.png"
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))
    image.save(path)
    forms: list[ImageLike] = [path, str(path), path.read_bytes(), image, np.asarray(image)]
    codes = encoder.encode_documents(forms)
    assert set(codes) == {encoder.encode_pixels(load(path, encoder.bundle.manifest.preprocessing)[None]).tobytes()}
    assert codes == encoder.encode_queries(forms) == encoder(forms)
    assert {type(code) for code in codes} == {bytes}
    assert encoder.dim == 16 == 8 * len(codes[0])


def test_a_pillow_image_follows_the_rules_for_files(bundle: Path) -> None:
    encoder = Encoder.open(bundle)
    half = Image.new("RGBA", (30, 30), (255, 0, 0, 128))
    raw = io.BytesIO()
    half.save(raw, "PNG")
    assert encoder([half]) == encoder([raw.getvalue()])


def test_what_is_no_image_is_rejected(bundle: Path) -> None:
    encoder = Encoder.open(bundle)
    with pytest.raises(CodeError, match=r"\(h, w, 3\)"):
        encoder.encode_image(np.zeros((5, 5), np.uint8))
    with pytest.raises(CodeError, match=r"\(h, w, 3\)"):
        encoder.encode_image(np.zeros((0, 5, 3), np.uint8))
    with pytest.raises(ImageRejected):
        encoder.encode_image(b"no picture")
