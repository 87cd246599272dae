"""The doctor says what is missing and how to mend it, changes nothing, and exits with 1 only for what is needed."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from milvus_fghash.doctor import Finding, examine, extras, is_broken
from milvus_fghash.packages import installed
from milvus_fghash.serving.target import Target

NOBODY = "http://127.0.0.1:9"


def look(uri: Path | str, asked_for: bool = False) -> dict[str, Finding]:
    return {finding.part: finding for finding in examine(Target(str(uri), timeout=2), asked_for)}


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
    assert set(extras()) == {"", "cpu", "gpu", "lite", "train", "plot", "parquet", "http", "s3", "gcs", "ray"}
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


def test_gpus_are_named(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str | None], tmp_path: Path) -> None:
    versions["torch"] = "2.9.0"
    cuda = SimpleNamespace(device_count=lambda: 2, get_device_name=lambda number: f"GPU {number}")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__="2.9.0", cuda=cuda))
    assert look(tmp_path / "x.db")["training"].detail == "torch 2.9.0, GPU: GPU 0, GPU 1"


def test_a_torch_that_does_not_load_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str | None], tmp_path: Path
) -> None:
    versions["torch"] = "2.9.0"
    monkeypatch.setitem(sys.modules, "torch", None)
    assert look(tmp_path / "x.db")["training"].state == "warning"


def test_installed() -> None:
    assert installed("numpy") == metadata.version("numpy")
    assert installed("no-such-package") is None


def test_proxies_homes_and_folders_that_are_in_the_way_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:sesame@127.0.0.1:9")
    monkeypatch.setenv("HOME", "/proc/nohome")
    found = look(NOBODY, asked_for=True)
    told = "The variable http_proxy sends this connection through the proxy 127.0.0.1:9"
    assert told in found[f"Milvus at {NOBODY}"].detail
    assert "sesame" not in str(found)
    assert found["Milvus Lite"].state == "ok"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/proc/nowhere"])
    found = look("~/x.db", asked_for=True)
    assert "there is no home folder" in found["Milvus at ~/x.db"].detail
    assert "No usable temporary directory" in found["Milvus Lite"].detail
