from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from milvus_fghash.bundle.bundle import Bundle, LearnedCodes, read_bundle
from milvus_fghash.core.codes import code_bytes, from_hex, pack
from milvus_fghash.core.images import RULES
from milvus_fghash.errors import BundleError, CodeError, ConfigError
from milvus_fghash.exporters.onnx_bundle import Origin, export_method
from milvus_fghash.methods.lsh import Method
from tests.helpers.onnx_graphs import Pixels, outputs_of, run, stretched

pytestmark = pytest.mark.full

Make = Callable[[int], Method]

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def test_the_golden_graph_gives_the_codes_it_always_gave() -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
    bundle = read_bundle(GOLDEN / "bundle-v1")
    photo, row, column, colour = np.ogrid[:6, :32, :32, :3]
    values = (row // 16 * 2 + column // 16 + 1) * (photo * 3 + 2) * (colour * 5 + 3) * 7
    given = run(bundle.graph(), (values % 256).astype(np.uint8))
    assert tuple(given) == bundle.manifest.outputs == ("logits", "codes", "embedding", "attention")
    assert np.array_equal(given["codes"], np.concatenate([from_hex(code, 12) for code in expected["codes"]]))
    for name in ("logits", "embedding", "attention"):
        assert np.allclose(given[name], expected[name], atol=1e-4)


@pytest.mark.parametrize("n_bits", [8, 12, 24, 33, 48, 256, 257, 1024])
def test_every_length_is_packed_as_milvus_wants_it(
    n_bits: int, small_method: Make, origin: Origin, pixels: Pixels, tmp_path: Path
) -> None:
    method = small_method(n_bits)
    bundle = export_method(method, origin, tmp_path / "b", pixels=pixels)
    outputs = outputs_of(method, pixels)
    together = run(bundle.graph(), pixels)
    alone = np.concatenate([run(bundle.graph(), photo[None])["codes"] for photo in pixels])
    assert bundle.manifest.bits == n_bits
    assert together["codes"].shape == (9, code_bytes(n_bits))
    assert together["codes"].dtype == np.uint8
    assert np.allclose(together["logits"], outputs, atol=1e-4)
    assert np.array_equal(together["codes"], pack(outputs))
    assert np.array_equal(alone, together["codes"])


@pytest.fixture(scope="session")
def small_bundle(
    small_method: Make, origin: Origin, pixels: Pixels, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    folder, further = tmp_path_factory.mktemp("bundles"), ("embedding", "attention")
    return export_method(small_method(12), origin, folder / "small", pixels=pixels, outputs=further)


def test_the_graph_is_one_plain_file(small_bundle: Bundle) -> None:
    model = onnx.load_from_string(small_bundle.graph())
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert {node.domain for node in model.graph.node} == {""}
    assert not any(onnx.external_data_helper.uses_external_data(tensor) for tensor in model.graph.initializer)
    assert [value.name for value in model.graph.input] == ["images"]


def test_the_graph_says_nothing_of_the_machine_it_was_made_on(small_bundle: Bundle) -> None:
    graph = small_bundle.graph()
    assert str(Path.cwd()).encode() not in graph
    assert b"site-packages" not in graph
    assert b".py" not in graph


def test_further_outputs_compute_the_backbone_once(small_bundle: Bundle) -> None:
    nodes = [node.op_type for node in onnx.load_from_string(small_bundle.graph()).graph.node]
    assert nodes.count("Conv") == nodes.count("Gemm") + nodes.count("MatMul") == 1
    assert "BatchNormalization" not in nodes  # folded into the convolution


def test_embedding_and_attention_are_those_of_the_backbone(
    small_bundle: Bundle, small_method: Make, pixels: Pixels
) -> None:
    backbone = small_method(12).backbone
    with torch.inference_mode():
        maps = backbone.maps(backbone.normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))).numpy()
    given = run(small_bundle.graph(), pixels)
    assert given["attention"].shape == (9, 1, 2, 2)
    assert np.allclose(given["embedding"], maps.mean(axis=(2, 3)), atol=1e-5)
    assert np.allclose(given["attention"], stretched(maps.mean(axis=1, keepdims=True)), atol=1e-4)


def test_a_plain_photo_has_no_attention_and_no_nan(small_bundle: Bundle) -> None:
    given = run(small_bundle.graph(), np.full((2, 32, 32, 3), 90, np.uint8))
    assert not given["attention"].any()


def test_the_manifest_says_what_was_exported(
    small_bundle: Bundle, small_method: Make, origin: Origin, pixels: Pixels
) -> None:
    manifest, backbone = small_bundle.manifest, small_method(12).backbone
    assert manifest.method == origin.method
    assert manifest.lineage == origin.lineage
    assert manifest.preprocessing == origin.preprocessing
    assert manifest.rules == RULES
    assert (manifest.mean, manifest.std) == (backbone.mean, backbone.std)
    assert manifest.outputs == ("logits", "codes", "embedding", "attention")
    assert (manifest.classes, manifest.training, manifest.quality) == (3, {"rounds": 1}, {"validation_map": 0.5})
    assert (manifest.flip_rate, manifest.bits_compared) == (0.0, 2 * 9 * 12)
    assert manifest.learned is None


def test_the_fingerprint_is_the_models_and_nothing_elses(
    small_bundle: Bundle, small_method: Make, origin: Origin, pixels: Pixels, tmp_path: Path
) -> None:
    method = small_method(12)
    again = export_method(method, origin, tmp_path / "again", pixels=pixels[:2])
    method.head.mean[5] += 1e-6
    changed = export_method(method, origin, tmp_path / "changed", pixels=pixels)
    assert again.manifest.fingerprint == small_bundle.manifest.fingerprint != changed.manifest.fingerprint


def test_the_method_stays_as_it_is_and_nothing_is_printed(
    small_method: Make, origin: Origin, pixels: Pixels, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    method = small_method(12).train()
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    export_method(method, origin, tmp_path / "b", pixels=pixels)
    assert method.training
    assert "maps" not in vars(method.backbone)
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_within_torchs_exporter_is_one(
    small_method: Make, origin: Origin, pixels: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wraps whatever happens inside it into an error of its own."""

    def interrupted(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            try:
                raise AttributeError("half imported")
            except AttributeError as error:
                raise torch.onnx.errors.OnnxExporterError("failed") from error

    monkeypatch.setattr(torch.onnx, "export", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_method(small_method(12), origin, tmp_path / "bundle", pixels=pixels)
    assert not (tmp_path / "bundle").exists()


def test_an_export_that_fails_leaves_the_old_bundle_alone(
    small_bundle: Bundle, small_method: Make, origin: Origin, pixels: Pixels, tmp_path: Path
) -> None:
    old = Path(shutil.copytree(small_bundle.path, tmp_path / "old"))
    foreign = LearnedCodes(("a",), ("x",), np.zeros((1, 6), np.uint8), "V")
    method = small_method(12)
    with pytest.raises(BundleError, match="exists"):
        export_method(method, origin, old, pixels=pixels)
    with pytest.raises(CodeError, match="shape"):
        export_method(method, origin, old, pixels=pixels, learned=foreign, overwrite=True)
    method.head.weight[0] = torch.nan
    with pytest.raises(BundleError, match="not finite"):
        export_method(method, origin, old, pixels=pixels, overwrite=True)
    assert read_bundle(old).manifest == small_bundle.manifest
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_an_opset_torch_cannot_give_is_rejected(
    small_method: Make, origin: Origin, pixels: Pixels, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="operators of version 18, not 3"):
        export_method(small_method(12), origin, tmp_path / "b", pixels=pixels, opset=3)


def test_an_unknown_output_is_rejected(small_method: Make, origin: Origin, pixels: Pixels, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no output .embeding.\. Did you mean embedding"):
        export_method(small_method(12), origin, tmp_path / "b", pixels=pixels, outputs=["embeding"])


@pytest.mark.parametrize("ir_version", [8, 9, 10])
def test_the_form_of_the_file_can_be_an_older_one(
    small_bundle: Bundle, small_method: Make, origin: Origin, pixels: Pixels, tmp_path: Path, ir_version: int
) -> None:
    made = export_method(small_method(12), origin, tmp_path / "b", pixels=pixels, ir_version=ir_version)
    assert onnx.load_from_string(made.graph()).ir_version == ir_version
    assert made.manifest.fingerprint == small_bundle.manifest.fingerprint


@pytest.mark.parametrize("ir_version", [7, 11])
def test_a_form_that_cannot_be_written_is_rejected(
    small_method: Make, origin: Origin, pixels: Pixels, tmp_path: Path, ir_version: int
) -> None:
    with pytest.raises(ConfigError, match=f"ONNX IR version {ir_version} cannot be written; choose 8 to 10"):
        export_method(small_method(12), origin, tmp_path / "b", pixels=pixels, ir_version=ir_version)
    assert list(tmp_path.iterdir()) == []


def test_the_docs_name_the_form_and_the_operators_that_export_writes(small_bundle: Bundle) -> None:
    model = onnx.load_from_string(small_bundle.graph())
    text = (Path(__file__).parents[2] / "docs/bundle-format.md").read_text(encoding="utf-8")
    assert f"ONNX IR version {model.ir_version} and operators of version {model.opset_import[0].version}" in text
