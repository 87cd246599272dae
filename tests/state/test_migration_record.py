"""The record of a reindex: what is written is read, and what earlier versions wrote too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from milvus_fghash.state.migration_record import ReindexRecord, record_file

RECORD = ReindexRecord(old="birds_1", new="birds_2", fingerprint="cd")


def test_a_finished_record_is_read_again(tmp_path: Path) -> None:
    assert ReindexRecord.read(tmp_path, "0af3") is None
    finished = RECORD.finished(is_consistent=True)
    finished.write(tmp_path, "0af3")
    assert ReindexRecord.read(tmp_path, "0af3") == finished
    assert (RECORD.is_consistent, finished.is_consistent) == (False, True)


@pytest.mark.parametrize("key", ["whole", "is_consistent"])
@pytest.mark.parametrize("value", [True, False])
def test_the_result_is_read_under_the_old_key_and_the_new_one(tmp_path: Path, key: str, value: bool) -> None:
    document = {"format": 1, "old": "birds_1", "new": "birds_2", "fingerprint": "cd", key: value, "date": ""}
    record_file(tmp_path, "0af3").write_text(json.dumps(document))
    assert ReindexRecord.read(tmp_path, "0af3") == RECORD.model_copy(update={"is_consistent": value})
