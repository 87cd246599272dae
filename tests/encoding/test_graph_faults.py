"""Graphs that give no numbers, the same numbers for every photo, or no end: nothing of them may become a code."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pymilvus import MilvusClient

from milvus_fghash.bundle.bundle import read_bundle
from milvus_fghash.datasets.read import read
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import BundleError, ConfigError
from milvus_fghash.ingest.api import ingest
from milvus_fghash.milvus.collection import HashCollection
from tests.helpers.decoders import greys
from tests.helpers.graph_faults import (
    Fault,
    change_graph,
    divide_by_brightness,
    divide_embedding_by_brightness,
    never_end_on_black,
    set_weights,
    swap_signs,
)
from tests.helpers.small_bundle import SIDE, random_images, reference, write_small_bundle

BLACK = np.zeros((1, SIDE, SIDE, 3), np.uint8)


def faulty(tmp_path: Path, fault: Fault) -> Path:
    return change_graph(write_small_bundle(tmp_path / "bundle"), fault)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_rejected_when_read(tmp_path: Path, value: float) -> None:
    bundle = faulty(tmp_path, lambda model: set_weights(model, value))
    with pytest.raises(BundleError, match=r"'directions'.*36 of 36 values are not finite.*Export an earlier"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        # finite weights whose products are not
        (lambda model: set_weights(model, 3e38), r"logits that are not finite \(24 of 24 values\)"),
        (lambda model: set_weights(model, 0.0), "the same outputs for any photo"),
        (swap_signs, "not the signs of its logits"),
    ],
)
def test_a_graph_is_tried_out_when_it_is_opened(tmp_path: Path, fault: Fault, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Encoder.open(faulty(tmp_path, fault))


def test_what_is_not_finite_while_encoding_is_not_stored(tmp_path: Path, lite: MilvusClient, new_name: str) -> None:
    (tmp_path / "photos").mkdir()
    greys(tmp_path / "photos", 6)  # the first one is black
    encoder = Encoder.open(faulty(tmp_path, divide_by_brightness))
    assert encoder.encode_pixels(random_images(5)).tolist() == reference(random_images(5), 12).tolist()
    collection = HashCollection.create(lite, new_name, encoder.bundle.manifest)
    with pytest.raises(BundleError, match=r"logits that are not finite \(12 of 48 values\)"):
        ingest(encoder, read("folder", tmp_path / "photos"), collection)
    assert collection.count() == 0


def test_an_embedding_that_is_not_finite_is_rejected(tmp_path: Path) -> None:
    bundle = write_small_bundle(tmp_path / "bundle", outputs=("logits", "codes", "embedding"))
    encoder = Encoder.open(change_graph(bundle, divide_embedding_by_brightness))
    assert encoder.encode_pixels(BLACK).tolist() == reference(BLACK, 12).tolist()
    with pytest.raises(BundleError, match=r"embedding that are not finite \(3 of 3 values\)"):
        encoder.run(BLACK, "embedding")


def test_a_graph_that_never_ends_is_ended(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    encoder = Encoder.open(faulty(tmp_path, never_end_on_black), encode_timeout=0.3)
    assert encoder.encode_pixels(random_images(5)).tolist() == reference(random_images(5), 12).tolist()
    begin = time.monotonic()
    with pytest.raises(BundleError, match=r"did not encode a batch of 1 in 0\.3 seconds"):
        encoder.encode_pixels(BLACK)
    assert time.monotonic() - begin < 5
    assert encoder.encode_pixels(random_images(1)).tolist() == reference(random_images(1), 12).tolist()
    assert set(threading.enumerate()) <= before


def test_ctrl_c_ends_a_graph_that_never_ends(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    encoder = Encoder.open(faulty(tmp_path, never_end_on_black))
    clock = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    clock.start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        encoder.encode_pixels(BLACK)
    assert time.monotonic() - begin < 5
    clock.join()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_limit_that_cannot_be_is_rejected(bundle: Path, seconds: float) -> None:
    with pytest.raises(ConfigError, match="time limit of encoding"):
        Encoder.open(bundle, encode_timeout=seconds)
