"""Rules for every test here: no user's Milvus is ever touched, and where CI is set nothing is skipped."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TypeVar

import pytest

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

MILVUS_FOR_TESTS = {"MILVUS_TEST_URI", "MILVUS_TEST_TOKEN"}


def pytest_configure() -> None:
    for name in [name for name in os.environ if name.startswith("MILVUS_") and name not in MILVUS_FOR_TESTS]:
        del os.environ[name]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _refuse_skip((yield))


def _refuse_skip(report: Report) -> Report:
    expected_failure = hasattr(report, "wasxfail")
    if os.environ.get("CI") and report.skipped and not expected_failure:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, and where CI is set nothing may be: {report.longrepr}"
    return report
