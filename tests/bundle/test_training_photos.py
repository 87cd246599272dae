"""The record of training photos: what it finds, what it keeps secret, and what it weighs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from milvus_fghash.bundle.bundle import TRAINING_PHOTOS, read_bundle, write_bundle
from milvus_fghash.bundle.training_photos import TrainingPhotos
from milvus_fghash.errors import BundleError
from tests.helpers.bundle_parts import description

GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-v1"
SALT = bytes(range(16))


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


SHAS, LABELS = [sha(n) for n in range(50)], ["wren", "jay", ""] * 16 + ["jay", ""]


def test_it_finds_the_photos_it_was_made_of_and_no_others() -> None:
    made = TrainingPhotos.of(SHAS, LABELS, SALT)
    asked = [*SHAS[::-1], *map(sha, range(1000, 1500)), "", "not a digest", SHAS[0].upper()]
    labelled, unlabelled = made.find(asked)
    assert labelled.tolist() == [bool(label) for label in LABELS[::-1]] + [False] * 503
    assert unlabelled.tolist() == [not label for label in LABELS[::-1]] + [False] * 503
    assert made.classes == ("jay", "wren")
    assert TrainingPhotos.of([], [], SALT).find(SHAS)[0].sum() == 0


def test_the_file_gives_away_neither_names_nor_order_nor_plain_digests() -> None:
    made = TrainingPhotos.of(SHAS, LABELS, SALT)
    order = np.random.default_rng(0).permutation(50)
    shuffled = TrainingPhotos.of([SHAS[n] for n in order], [LABELS[n] for n in order], SALT)
    assert made.pack() == shuffled.pack()
    assert len(made.pack()) == 16 + 8 * 50
    assert not any(bytes.fromhex(one)[:8] in made.pack() for one in SHAS)
    other = TrainingPhotos.of(SHAS, LABELS, SALT[::-1])
    assert not set(made.labelled.tolist()) & set(other.labelled.tolist())


def test_a_digest_is_what_the_format_says() -> None:
    made = TrainingPhotos.of(SHAS[:1], ["jay"], SALT)
    expected = hashlib.blake2b(hashlib.sha256(b"0").digest(), digest_size=8, salt=SALT).digest()
    assert made.pack() == SALT + expected


def test_a_bundle_keeps_it(tmp_path: Path) -> None:
    golden, made = read_bundle(GOLDEN), TrainingPhotos.of(SHAS, LABELS, SALT)
    assert golden.training_photos() is None  # made before there was such a file
    write_bundle(tmp_path / "b", golden.graph(), description(golden), training_photos=made)
    bundle = read_bundle(tmp_path / "b")
    found = bundle.training_photos()
    assert found is not None
    assert (found.pack(), found.classes, found.info) == (made.pack(), made.classes, bundle.manifest.training_photos)
    write_bundle(tmp_path / "b", golden.graph(), description(golden), training_photos=made, overwrite=True)
    (tmp_path / "b" / TRAINING_PHOTOS).write_bytes(made.pack()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"training-photos\.bin was changed after export"):
        read_bundle(tmp_path / "b")
    (tmp_path / "b" / TRAINING_PHOTOS).unlink()
    with pytest.raises(BundleError, match="incomplete"):
        read_bundle(tmp_path / "b")


def test_a_wrong_length_is_one_sentence() -> None:
    made = TrainingPhotos.of(SHAS, LABELS, SALT)
    with pytest.raises(BundleError, match=r"has 415 bytes; .* take 416\. Export"):
        TrainingPhotos.unpack(made.pack()[:-1], made.info)
