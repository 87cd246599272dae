"""Rules for every test: plain `pytest` is quick, no user's Milvus is touched, nothing is skipped where CI is set,
and no test masks words of another one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from milvus_fghash.core.masking import KNOWN_SECRETS

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

MILVUS_FOR_TESTS = {"MILVUS_TEST_URI", "MILVUS_TEST_TOKEN"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-runs", type=int, default=1, help="Runs of each kind of fault in integration_tests.")


def pytest_configure(config: pytest.Config) -> None:
    if not config.option.markexpr:
        named = config.args_source == pytest.Config.ArgsSource.ARGS
        config.option.markexpr = "not slow" if named else "not slow and not full"
    # Threads of torch wait for each other: on a busy machine, two of them are a hundred times as slow as one.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="state-")  # journals of servers
    for name in [name for name in os.environ if name.startswith("MILVUS_") and name not in MILVUS_FOR_TESTS]:
        del os.environ[name]


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["XDG_STATE_HOME"], ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _reject_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _reject_skip((yield))


def _reject_skip(report: Report) -> Report:
    expected_failure = hasattr(report, "wasxfail")
    if os.environ.get("CI") and report.skipped and not expected_failure:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, and where CI is set nothing may be: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests() -> Iterator[None]:
    """Secrets are known to the whole process: the password of one test would be masked in the messages of the next."""
    yield
    KNOWN_SECRETS.clear()


SHARED = Path(__file__).resolve().parent.parent / "shared"


def _beside_the_checkout(part: str) -> Path:
    path = SHARED / part
    if not path.exists():
        pytest.skip(f"needs {path}")
    return path


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of the real photos, CUB_100 and food-10."""
    return _beside_the_checkout("data")


@pytest.fixture(scope="session")
def imagenet_weights() -> Path:
    """ImageNet weights for MobileNetV2."""
    return _beside_the_checkout("weights/mobilenet_v2_imagenet.safetensors")


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """The folder of weights: MobileNetV2, and EfficientNet-Lite2 as safetensors and as an ONNX embedding model."""
    return _beside_the_checkout("weights")
