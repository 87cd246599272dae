"""Which ONNX Runtime, which provider, and graphs that are not what their bundle says."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from milvus_fghash.bundle.bundle import read_bundle
from milvus_fghash.core.onnx_runtime import load_runtime
from milvus_fghash.encoding import session as runtime
from milvus_fghash.encoding.session import choose_provider, open_session
from milvus_fghash.errors import BundleError, ConfigError
from tests.helpers.small_bundle import write_small_bundle

GPU_BUILD = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
CPU_BUILD = ["AzureExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize("name", ["cpu", "CPU", "CPUExecutionProvider", "cpuexecutionprovider"])
def test_a_provider_by_any_of_its_names(name: str) -> None:
    assert choose_provider(name, CPU_BUILD) == "CPUExecutionProvider"


def test_without_a_wish_it_is_cuda_or_the_cpu() -> None:
    assert choose_provider(None, GPU_BUILD) == "CUDAExecutionProvider"
    assert choose_provider(None, CPU_BUILD) == "CPUExecutionProvider"


def test_an_absent_provider_names_those_that_are_there() -> None:
    with pytest.raises(ConfigError, match=r"no provider 'cuda'.*Known: azure, cpu.*\[gpu\]"):
        choose_provider("cuda", CPU_BUILD)


def test_cuda_computes_without_tf32() -> None:
    assert runtime.OPTIONS["CUDAExecutionProvider"] == {"use_tf32": "0"}


def test_without_onnxruntime_the_error_names_both_extras() -> None:
    probe = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from milvus_fghash.encoding.encoder import Encoder\n"
        "from milvus_fghash.core.onnx_runtime import load_runtime\n"
        "load_runtime()"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert "MissingExtra: ONNX Runtime is not installed" in last
    assert "milvus-fghash[cpu]" in last
    assert "milvus-fghash[gpu]" in last


def test_both_distributions_at_once_are_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "1.20")
    with pytest.warns(UserWarning, match="pip uninstall -y onnxruntime onnxruntime-gpu"):
        load_runtime()


def test_a_session_has_the_asked_threads(bundle: Path) -> None:
    session = open_session(read_bundle(bundle), "cpu", threads=3)
    assert session.get_session_options().intra_op_num_threads == 3
    assert session.get_providers() == ["CPUExecutionProvider"]


def test_a_graph_of_another_code_length_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"logits in the graph .* is tensor\(float\).*; expected .*\['batch', 14\]"):
        open_session(read_bundle(write_small_bundle(tmp_path / "bundle", bits=12, claimed_bits=14)))


def test_a_graph_of_another_image_size_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"images in the graph .*\['batch', 20, 20, 3\]"):
        open_session(read_bundle(write_small_bundle(tmp_path / "bundle", claimed_size=20)))
