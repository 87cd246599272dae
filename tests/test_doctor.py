"""The doctor says what is missing and how to repair it, changes nothing, and exits with 1 only for what is needed."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from milvus_fghash.core.environment import installed
from milvus_fghash.doctor import Finding, examine, extras, is_broken
from milvus_fghash.milvus.connection import ConnectionConfig

pytestmark = pytest.mark.full

NOBODY = "http://127.0.0.1:9"


def look(uri: Path | str, asked_for: bool = False) -> dict[str, Finding]:
    return {finding.part: finding for finding in examine(ConnectionConfig(str(uri), timeout=2), asked_for)}


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Package -> version as the doctor shall believe it; None where it is absent."""
    pretended: dict[str, str | None] = {}
    real = metadata.version

    def version(package: str) -> str:
        if package not in pretended:
            return real(package)
        found = pretended[package]
        if found is None:
            raise metadata.PackageNotFoundError(package)
        return found

    monkeypatch.setattr(metadata, "version", version)
    return pretended


def test_extras_come_from_the_package_itself() -> None:
    assert set(extras()) == {
        "",
        "cpu",
        "gpu",
        "lite",
        "train",
        "timm",
        "onnx",
        "tensorboard",
        "plot",
        "parquet",
        "http",
        "s3",
        "gcs",
        "heif",
        "ray",
    }
    assert extras()["lite"] == ["milvus-lite", "setuptools"]


def test_a_missing_extra_names_its_pip_line(versions: dict[str, str | None], tmp_path: Path) -> None:
    versions["pyarrow"] = None
    found = look(tmp_path / "x.db")
    assert found["extra [parquet]"] == Finding(
        "extra [parquet]", "missing", "lacks pyarrow: pip install 'milvus-fghash[parquet]'"
    )
    assert not is_broken(list(found.values()))


def test_the_other_onnxruntime_has_to_go_first(versions: dict[str, str | None], tmp_path: Path) -> None:
    versions |= {"onnxruntime": "1.20", "onnxruntime-gpu": None}
    detail = look(tmp_path / "x.db")["extra [gpu]"].detail
    assert detail.endswith("pip uninstall -y onnxruntime && pip install 'milvus-fghash[gpu]'")


def test_looking_makes_no_file(tmp_path: Path) -> None:
    found = look(tmp_path / "x.db", asked_for=True)
    assert found[f"Milvus at {tmp_path / 'x.db'}"].state == "ok"
    assert list(tmp_path.iterdir()) == []
    found = look(tmp_path / "no folder" / "x.db", asked_for=True)
    assert found[f"Milvus at {tmp_path / 'no folder' / 'x.db'}"].state == "broken"


def test_without_any_onnxruntime_it_is_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = look(tmp_path / "x.db")
    assert found["encoding"].state == "broken"
    assert "milvus-fghash[cpu]" in found["encoding"].detail
    assert "milvus-fghash[gpu]" in found["encoding"].detail
    assert is_broken(list(found.values()))


def test_two_onnxruntimes_are_a_warning_with_the_way_out(versions: dict[str, str | None], tmp_path: Path) -> None:
    versions |= {"onnxruntime": "1.20", "onnxruntime-gpu": "1.20"}
    finding = look(tmp_path / "x.db")["encoding"]
    assert finding.state == "warning"
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in finding.detail


def test_milvus_lite_3_is_named_as_unusable(versions: dict[str, str | None], tmp_path: Path) -> None:
    versions["milvus-lite"] = "3.2.2"
    finding = look(tmp_path / "x.db")["Milvus Lite"]
    assert finding.state == "warning"
    assert "no binary vectors" in finding.detail
    assert "milvus-lite>=2.4.10,<3" in finding.detail


def test_milvus_lite_without_pkg_resources(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str | None], tmp_path: Path
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in {"milvus_lite", "pkg_resources"}]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pkg_resources", None)
    versions["milvus-lite"] = "2.5.1"
    finding = look(tmp_path / "x.db")["Milvus Lite"]
    assert finding.state == "warning"
    assert "setuptools<82" in finding.detail


@pytest.mark.parametrize(("asked_for", "state"), [(True, "broken"), (False, "warning")])
def test_a_milvus_that_does_not_answer(asked_for: bool, state: str) -> None:
    found = look(NOBODY, asked_for)
    assert found[f"Milvus at {NOBODY}"].state == state
    assert is_broken(list(found.values())) is asked_for


def torch_in(folder: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that is found before any other, and must not be imported."""
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text("raise SystemExit('imported')")
    (folder / "torch" / "version.py").write_text(version)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.mark.parametrize(
    ("version", "finding"),
    [
        ("__version__ = '2.9.0+cu130'\ncuda = '13.0'", ("ok", "torch 2.9.0+cu130, built for CUDA 13.0")),
        ("__version__ = '2.9.0+cpu'\ncuda = None", ("ok", "torch 2.9.0+cpu, built without CUDA")),
        ("", ("warning", "the installation of torch is damaged (KeyError: '__version__'); install it again")),
    ],
)
def test_the_build_of_torch_is_told(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str | None], tmp_path: Path, version: str,
    finding: tuple[str, str],
) -> None:  # fmt: skip
    versions["torch"] = "2.9.0"
    torch_in(tmp_path, version, monkeypatch)
    found = look(tmp_path / "x.db")["training"]
    assert (found.state, found.detail) == finding


def test_a_torch_whose_folder_is_gone_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str | None], tmp_path: Path
) -> None:
    versions["torch"] = "2.9.0"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert look(tmp_path / "x.db")["training"].state == "warning"


@pytest.mark.extras
def test_looking_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from milvus_fghash.doctor import examine; "
        "from milvus_fghash.milvus.connection import ConnectionConfig; "
        "print(*(one.detail for one in examine(ConnectionConfig('x.db'), False) if one.part == 'training')); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    found, loaded = done.stdout.splitlines()
    assert found.startswith(f"torch {metadata.version('torch').partition('+')[0]}")
    assert loaded == "False"


def test_installed() -> None:
    assert installed("numpy") == metadata.version("numpy")
    assert installed("no-such-package") is None


def test_proxies_homes_and_folders_that_are_in_the_way_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:sesame@127.0.0.1:9")
    monkeypatch.setenv("HOME", "/proc/nohome")
    found = look(NOBODY, asked_for=True)
    message = "The variable http_proxy sends this connection through the proxy 127.0.0.1:9"
    assert message in found[f"Milvus at {NOBODY}"].detail
    assert "sesame" not in str(found)
    assert found["Milvus Lite"].state == "ok"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/proc/nowhere"])
    found = look("~/x.db", asked_for=True)
    assert "there is no home folder" in found["Milvus at ~/x.db"].detail
    assert "No usable temporary directory" in found["Milvus Lite"].detail
