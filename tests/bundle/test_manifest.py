import hashlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pydantic import BaseModel

from milvus_fghash.bundle.manifest import BundleManifest, LearnedInfo, fingerprint
from milvus_fghash.core.images import Preprocessing

DOC = Path(__file__).parents[2] / "docs" / "bundle-format.md"

PREPROCESSING = Preprocessing()
MEAN, STD = (0.5, 0.25, 0.125), (1.0, 2.0, 4.0)

Tensors = dict[str, NDArray[Any]]

arrays = hnp.arrays(st.sampled_from([np.float32, np.float64, np.int64, np.uint8]), hnp.array_shapes(max_dims=3))
weights = st.dictionaries(st.text(max_size=8), arrays, min_size=1, max_size=4)


def of(tensors: Tensors, **changes: Any) -> str:
    return fingerprint(
        tensors,
        changes.get("preprocessing", PREPROCESSING),
        changes.get("mean", MEAN),
        changes.get("std", STD),
        changes.get("bits", 8),
    )


def test_fingerprint_worked_by_hand() -> None:
    tensors: Tensors = {"count": np.array(2, np.int64), "bias": np.array([1], np.float32)}
    for scale, part in (("reduced", b'"scale":"reduced",'), ("whole", b"")):
        lines = (
            b'{"bits":8,"mean":[0.5,0.25,0.125],"preprocessing":{"interpolation":"bilinear","resize":256,'
            b'"resize_mode":"shorter_side",' + part + b'"size":224},"std":[1.0,2.0,4.0]}\n'
            b'["bias","<f4",[1]]\n\x00\x00\x80\x3f'
            b'["count","<i8",[]]\n\x02\x00\x00\x00\x00\x00\x00\x00'
        )
        preprocessing = Preprocessing.model_validate({"scale": scale})
        assert of(tensors, preprocessing=preprocessing) == hashlib.sha256(lines).hexdigest()


@given(weights)
def test_order_byte_order_and_layout_do_not_matter(tensors: Tensors) -> None:
    swapped: Tensors = {
        name: np.asfortranarray(tensor.astype(tensor.dtype.newbyteorder(">"))).reshape(tensor.shape)
        for name, tensor in reversed(tensors.items())
    }
    assert of(swapped) == of(tensors)


@given(weights, st.data())
def test_any_changed_weight_changes_it(tensors: Tensors, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(tensors)))
    raw = bytearray(tensors[name].tobytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    changed = np.frombuffer(bytes(raw), tensors[name].dtype).reshape(tensors[name].shape)
    assert of(tensors | {name: changed}) != of(tensors)


def test_names_types_and_shapes_count() -> None:
    zeros = np.zeros((2, 3), np.float32)
    variants: list[Tensors] = [
        {"a": zeros},
        {"b": zeros},
        {"a": zeros.T},
        {"a": zeros.ravel()},
        {"a": zeros.view(np.int32)},
        {"a": zeros, "b": zeros[:0]},
        {"a": zeros[:1], "b": zeros[1:]},
        {"a": zeros[:1], "c": zeros[1:]},
    ]
    assert len({of(variant) for variant in variants}) == len(variants)


@pytest.mark.parametrize(
    "change",
    [
        {"preprocessing": Preprocessing(size=192)},
        {"preprocessing": Preprocessing(resize=257)},
        {"preprocessing": Preprocessing(resize_mode="stretch")},
        {"preprocessing": Preprocessing(interpolation="bicubic")},
        {"mean": (0.5, 0.25, 0.126)},
        {"std": (1.0, 4.0, 2.0)},
        {"bits": 9},
    ],
)
def test_preprocessing_normalisation_and_length_count(change: dict[str, Any]) -> None:
    tensors = {"a": np.zeros(3, np.float32)}
    assert of(tensors, **change) != of(tensors)


def described(first: str) -> dict[str, str]:
    """The table of the description whose first row is of this name: name -> meaning."""
    lines = DOC.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| `{first}` "))
    rows = (line.split("|") for line in itertools.takewhile(lambda line: line.startswith("|"), lines[start:]))
    return {cells[1].strip(" `"): cells[3].strip() for cells in rows}


@pytest.mark.parametrize(("model", "first"), [(BundleManifest, "format_version"), (LearnedInfo, "sha256")])
def test_the_description_of_the_format_says_what_the_fields_say(model: type[BaseModel], first: str) -> None:
    meanings = {name: " ".join((field.description or "").split()) for name, field in model.model_fields.items()}
    assert described(first) == meanings


def test_the_description_of_the_format_knows_the_preprocessing() -> None:
    assert list(described("size")) == list(Preprocessing.model_fields)


def test_the_example_in_the_description_is_true() -> None:
    example = DOC.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    assert example.count("assert") == 2
    exec(example, {})
