import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from milvus_fghash.bundle.bundle import Bundle, LearnedCodes, read_bundle, write_bundle
from milvus_fghash.core.codes import from_hex, to_hex
from milvus_fghash.errors import BundleError, CodeError
from tests.helpers.bundle_parts import change_manifest, change_part, description, folder_of, npz
from tests.helpers.odd_files import endless, giant, pipe

GOLDEN = Path(__file__).parents[1] / "golden"
PARTS = ("encoder.onnx", "bundle.json", "learned.npz")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the version-1 bundle, to be changed."""
    return Path(shutil.copytree(GOLDEN / "bundle-v1", tmp_path / "bundle"))


@pytest.fixture
def golden() -> Bundle:
    return read_bundle(GOLDEN / "bundle-v1")


def test_a_version_1_bundle_stays_readable(golden: Bundle) -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
    learned = golden.learned()
    assert golden.manifest.format_version == 1
    assert golden.manifest.fingerprint == expected["fingerprint"]
    assert learned is not None
    assert learned.source == "V"
    assert list(learned.ids) == expected["learned_ids"]
    assert list(learned.labels) == expected["learned_labels"]
    assert to_hex(learned.codes) == expected["learned_codes"]


def test_what_is_written_is_read_back(golden: Bundle, tmp_path: Path) -> None:
    learned = LearnedCodes(("x", "y"), ("one", "two"), np.concatenate([from_hex(h, 12) for h in ("90c0", "fff0")]), "V")
    written = write_bundle(tmp_path / "made" / "b", golden.graph(), description(golden), learned)
    read = read_bundle(tmp_path / "made" / "b")
    back = read.learned()
    assert read == written
    assert read.graph() == golden.graph()
    assert back is not None
    assert (back.ids, back.labels, back.source) == (learned.ids, learned.labels, learned.source)
    assert np.array_equal(back.codes, learned.codes)


def test_the_same_bundle_written_twice_is_the_same_bytes(golden: Bundle, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_bundle(tmp_path / name, golden.graph(), description(golden), golden.learned())
    assert folder_of(tmp_path / "a") == folder_of(tmp_path / "b") != {}


def test_without_learned_codes_there_is_no_file_for_them(golden: Bundle, tmp_path: Path) -> None:
    written = write_bundle(tmp_path / "b", golden.graph(), description(golden))
    assert sorted(folder_of(tmp_path / "b")) == ["bundle.json", "encoder.onnx"]
    assert written.learned() is None


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_named(bundle: Path, part: str) -> None:
    (bundle / part).unlink()
    with pytest.raises(BundleError, match=part):
        read_bundle(bundle)


@pytest.mark.parametrize("part", ["encoder.onnx", "learned.npz"])
def test_a_single_changed_bit_is_seen(bundle: Path, part: str) -> None:
    raw = bytearray((bundle / part).read_bytes())
    raw[len(raw) // 2] ^= 1
    (bundle / part).write_bytes(raw)
    with pytest.raises(BundleError, match=rf"{part} was changed after export"):
        read_bundle(bundle)


def test_a_part_changed_after_reading_is_seen(bundle: Path) -> None:
    read = read_bundle(bundle)
    for part in ("encoder.onnx", "learned.npz"):
        (bundle / part).write_bytes(b"other")
    with pytest.raises(BundleError, match="changed after export"):
        read.graph()
    with pytest.raises(BundleError, match="changed after export"):
        read.learned()


def test_a_newer_version_asks_for_an_upgrade(bundle: Path) -> None:
    change_manifest(bundle, format_version=2, something_new=True)
    with pytest.raises(BundleError, match=r"format version 2, made by a newer milvus-fghash.*Upgrade"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": None}, "format_version"),
        ({"format_version": "1"}, "format_version"),
        ({"format_version": 0}, "format_version"),
        ({"bit": 12}, "unknown key 'bit'. Did you mean bits"),
        ({"bits": 7}, "bits"),
        ({"bits": 1025}, "bits"),
        ({"bit_order": "little"}, "bit_order"),
        ({"mean": [0.5, 0.5]}, "mean"),
        ({"std": [0.2, 0.0, 0.2]}, "std"),
        ({"outputs": ["codes", "logits"]}, "outputs must begin with logits, codes"),
        ({"outputs": ["logits", "codes", "codes"]}, "have no name twice"),
        ({"graph_sha256": "../encoder.onnx"}, "graph_sha256"),
        ({"graph": "../../etc/passwd"}, "unknown key 'graph'"),
        (
            {"learned": {"sha256": "0" * 64, "count": 5, "source": "V", "file": "../x.npz"}},
            "unknown key 'learned.file'",
        ),
        ({"lineage": "no hex"}, "lineage"),
        ({"preprocessing": {"size": 32, "resize": 16}}, "resize must be at least size"),
        ({"bits": 48}, "learned.npz cannot be used"),
    ],
)
def test_a_manifest_that_is_not_allowed_is_rejected(bundle: Path, changes: dict[str, Any], message: str) -> None:
    change_manifest(bundle, **changes)
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "one JSON object"),
        (b"{}", "format_version"),
        (b'{"flip_rate": NaN}', "NaN is not a JSON number"),
        (b'{"flip_rate": 1e999}', "1e999 is not a JSON number"),
        (b'{"training": ' + b"[" * 900 + b"]" * 900 + b"}", "nested too deeply"),
        (b'{"training": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}", "nested too deeply"),
        (b'{"bits": 12, "bits": 24}', "a key occurs twice"),
    ],
)
def test_a_manifest_that_is_no_json_is_rejected(bundle: Path, text: bytes, message: str) -> None:
    (bundle / "bundle.json").write_bytes(text)
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle)


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(("make", "kind"), [(pipe, "a pipe"), (endless, "a symbolic link"), (Path.mkdir, "a folder")])
def test_a_part_that_is_no_regular_file_is_rejected(
    bundle: Path, part: str, make: Callable[[Path], Any], kind: str
) -> None:
    (bundle / part).unlink()
    make(bundle / part)
    with pytest.raises(BundleError, match=f"{part}: it is {kind}; expected a regular file"):
        read_bundle(bundle)


@pytest.mark.parametrize("part", PARTS)
def test_a_giant_is_not_read(bundle: Path, part: str) -> None:
    giant(bundle / part)
    begin = time.monotonic()
    with pytest.raises(BundleError, match=rf"{part}: it has more than the allowed [0-9,]+ bytes"):
        read_bundle(bundle)
    assert time.monotonic() - begin < 1


def test_no_link_is_followed_to_a_file_of_another(bundle: Path, tmp_path: Path) -> None:
    """Else the message would tell the SHA-256 of any file that the reader may read."""
    (tmp_path / "secret").write_text("secret")
    (bundle / "encoder.onnx").unlink()
    (bundle / "encoder.onnx").symlink_to(tmp_path / "secret")
    with pytest.raises(BundleError) as caught:
        read_bundle(bundle)
    assert hashlib.sha256(b"secret").hexdigest() not in str(caught.value)


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, lambda path: path.write_text("no folder")])
def test_what_is_no_bundle_is_rejected(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    make(tmp_path / "b")
    with pytest.raises(BundleError, match=r"no bundle|bundle\.json"):
        read_bundle(tmp_path / "b")


def test_a_graph_with_weights_in_another_file_is_rejected(bundle: Path) -> None:
    model = onnx.load_from_string((bundle / "encoder.onnx").read_bytes())
    tensor = model.graph.initializer.add(name="outside", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    change_part(bundle, "encoder.onnx", model.SerializeToString())
    with pytest.raises(BundleError, match="weights in another file"):
        read_bundle(bundle)


def test_a_graph_with_operators_of_others_is_rejected(bundle: Path) -> None:
    model = onnx.load_from_string((bundle / "encoder.onnx").read_bytes())
    model.graph.node.append(helper.make_node("Run", ["logits"], ["ran"], domain="com.example"))
    change_part(bundle, "encoder.onnx", model.SerializeToString())
    with pytest.raises(BundleError, match=r"com\.example"):
        read_bundle(bundle)


def test_a_bundle_of_other_files_is_rejected_when_written(golden: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a readable ONNX file"):
        write_bundle(tmp_path / "b", b"not onnx", description(golden))
    assert list(tmp_path.iterdir()) == []


class Bomb:
    """Unpickling it would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (66,)


TEXT = np.array(["a"])


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            npz(ids=np.array([Bomb()], object), labels=TEXT, codes=np.zeros((1, 2), np.uint8)),
            "Python objects, which are never loaded",
        ),
        (npz(ids=np.array([1]), labels=TEXT, codes=np.zeros((1, 2), np.uint8)), "ids must be a row of text"),
        (npz(ids=TEXT, labels=np.array("a"), codes=np.zeros((1, 2), np.uint8)), "labels must be a row of text"),
        (npz(ids=TEXT, labels=TEXT), "codes"),
        (npz(ids=TEXT, labels=TEXT, codes=np.zeros((1, 3), np.uint8)), "must have shape"),
        (npz(ids=TEXT, labels=TEXT, codes=np.full((1, 2), 255, np.uint8)), "last 4 bits"),
        (npz(ids=TEXT, labels=TEXT, codes=np.zeros((2, 2), np.uint8)), "an id and a label each"),
        (npz(ids=TEXT, labels=TEXT, codes=np.zeros((1, 2), np.uint8)), "holds 1 codes, bundle.json says 5"),
        (b"PK\x03\x04 no archive", "learned.npz cannot be used"),
        (b"", "learned.npz cannot be used"),
        (b"plain text", "learned.npz cannot be used"),
    ],
)
def test_learned_codes_that_are_not_allowed_are_rejected(bundle: Path, raw: bytes, message: str) -> None:
    change_part(bundle, "learned.npz", raw)
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle)


def test_learned_codes_must_fit_their_ids_and_length(golden: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="an id and a label each"):
        LearnedCodes(("a", "b"), ("x",), np.zeros((2, 2), np.uint8), "V")
    with pytest.raises(BundleError, match="an id and a label each"):
        LearnedCodes((), (), np.zeros((0, 2), np.uint8), "V")
    wide = LearnedCodes(("a",), ("x",), np.zeros((1, 6), np.uint8), "V")
    with pytest.raises(CodeError, match="shape"):
        write_bundle(tmp_path / "b", golden.graph(), description(golden), wide)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_overwritten_only_when_allowed(golden: Bundle, bundle: Path) -> None:
    before = folder_of(bundle)
    with pytest.raises(BundleError, match="exists; choose another name, or overwrite it"):
        write_bundle(bundle, golden.graph(), description(golden))
    assert folder_of(bundle) == before
    write_bundle(bundle, golden.graph(), description(golden), overwrite=True)
    assert sorted(folder_of(bundle)) == ["bundle.json", "encoder.onnx"]
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_a_training_is_told_to_be_exported(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(BundleError, match=r"run is a training, not a bundle; export it first"):
        read_bundle(tmp_path / "run")


def test_only_a_bundle_is_ever_overwritten(golden: Bundle, bundle: Path) -> None:
    (bundle / "thesis.tex").write_text("ten years of work")
    with pytest.raises(BundleError, match=r"more than a bundle \(thesis.tex\)"):
        write_bundle(bundle, golden.graph(), description(golden), overwrite=True)
    file = bundle / "thesis.tex"
    with pytest.raises(BundleError, match="more than a bundle"):
        write_bundle(file, golden.graph(), description(golden), overwrite=True)
    assert file.read_text() == "ten years of work"


@pytest.mark.parametrize(
    ("call", "failing"), [("fsync", 1), ("fsync", 2), ("fsync", 3), ("replace", 1), ("replace", 2)]
)
def test_a_full_disk_leaves_the_old_bundle_and_nothing_else(
    golden: Bundle, bundle: Path, monkeypatch: pytest.MonkeyPatch, call: str, failing: int
) -> None:
    before, real, calls = folder_of(bundle), getattr(os, call), []

    def fails_once(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, call, fails_once)
    with pytest.raises(BundleError, match=r"cannot write the bundle .*No space left on device"):
        write_bundle(bundle, golden.graph(), description(golden), golden.learned(), overwrite=True)
    monkeypatch.undo()
    assert folder_of(bundle.parent) == {f"bundle/{name}": raw for name, raw in before.items()}


def test_the_old_bundle_stands_until_the_new_one_is_complete(
    golden: Bundle, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = os.fsync, []

    def look(handle: int) -> None:
        seen.append(read_bundle(bundle).manifest)
        real(handle)

    monkeypatch.setattr(os, "fsync", look)
    write_bundle(bundle, golden.graph(), description(golden), overwrite=True)
    assert seen == [golden.manifest] * 2


def test_a_folder_that_cannot_be_made_is_one_clear_error(golden: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot write the bundle"):
        write_bundle(tmp_path / "file" / "b", golden.graph(), description(golden))
