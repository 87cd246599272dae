"""Kills and lost answers, a few runs of each (`--fault-runs N` for more); and the harness sees planted faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration_tests.faults import FAULTS, Fault, Harness, Outcome
from integration_tests.faulty_ingest import Plant, Stage
from integration_tests.milvus_server import running_server


@pytest.fixture(scope="module")
def at_work(milvus_package: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """On a server of its own, which gets killed."""
    with running_server() as server:
        yield Harness(server, tmp_path_factory.mktemp("faults"))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_extra_or_twice(at_work: Harness, fault: Fault, request: pytest.FixtureRequest) -> None:
    """The client is killed twice in each run: in the middle of a write, and before the write is in the journal."""
    stages: tuple[Stage | None, ...] = ("sink", "journal") if fault == "client killed" else (None,)
    for _ in range(request.config.getoption("--fault-runs")):
        for stage in stages:
            outcome = at_work.run(fault, stage=stage)
            assert outcome.is_good, outcome


def until_it_shows(at_work: Harness, plant: Plant, stage: Stage, most: int = 5) -> Outcome:
    """A kill at a random moment need not hit."""
    for _ in range(most):
        outcome = at_work.run("client killed", plant, stage)
        if not outcome.is_good:
            break
    return outcome


def test_rows_that_are_inserted_are_found_twice(at_work: Harness) -> None:
    assert until_it_shows(at_work, "insert", "journal").found.duplicates.count


def test_rows_written_down_before_they_are_in_are_found_missing(at_work: Harness) -> None:
    assert until_it_shows(at_work, "journal first", "sink").found.missing.count
