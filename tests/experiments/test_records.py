"""The file of records: half lines, damaged ones, other figures under the same name, a second grid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milvus_fghash.errors import ConfigError, DataError
from milvus_fghash.experiments.records import Record, Store
from milvus_fghash.recipes.loader import load_recipe
from tests.helpers.made_up_records import record


def names(path: Path, *, writing: bool = True) -> list[str]:
    with Store(path, writing=writing) as store:
        return list(store.records)


def filled(path: Path) -> Path:
    with Store(path) as store:
        store.append(record("a", 0.25, 0.5, curve={"pairs": (1.0, 0.5)}))
        store.append(record("b", None))
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    made = record("a", 0.1 + 0.2, 1 / 3, curve={"pairs": (1.0, 0.5)})
    with Store(tmp_path / "deep" / "cells.jsonl") as store:
        store.append(made)
        assert store.find("a", made.identity) is store.records["a"]
        assert store.find("b", made.identity) is None
    with Store(tmp_path / "deep" / "cells.jsonl") as store:
        assert store.find("a", made.identity) == made


@settings(max_examples=20, deadline=None)  # each line waits for the disk
@given(st.integers(min_value=0))
def test_a_file_cut_anywhere_keeps_its_whole_lines(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = filled(tmp_path_factory.mktemp("store") / "cells.jsonl")
    raw = path.read_bytes()
    cut %= len(raw) + 1
    first = raw.index(b"\n") + 1
    whole = ["a", "b"][: (cut >= first) + (cut >= len(raw))]
    path.write_bytes(raw[:cut])
    assert names(path, writing=False) == whole
    assert path.read_bytes() == raw[:cut], "who only looks must not touch a line that is being written"
    with Store(path) as store:
        assert list(store.records) == whole
        store.append(record("c"))
    assert names(path) == [*whole, "c"]


def test_a_damaged_line_that_is_not_the_last_is_an_error(tmp_path: Path) -> None:
    path = filled(tmp_path / "cells.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0][:40] + b"\n" + lines[1])
    with pytest.raises(DataError, match=r"line 1 of .*damaged.*delete it"):
        names(path)
    path.write_bytes(lines[0] + b"[]\n")
    with pytest.raises(DataError, match=r"line 2 .* is not a record"):
        names(path)
    path.write_bytes(json.dumps({**json.loads(lines[0]), "encodet": 1}).encode() + b"\n")
    with pytest.raises(ConfigError, match=r"line 1 .*unknown key 'encodet'.*encoded"):
        names(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"photos": "q"}, "with photos = p, and now it is q"),
        ({"options": {"gamma": 30.0}}, "with options.gamma = 20.0, and now it is 30.0"),
        ({"options": {"gamma": 20.0, "beta": 1}}, "with options.beta = (nothing), and now it is 1"),
        (
            {"recipe": load_recipe("demo-baseline", ["training.learning_rate=0.5"])},
            "with recipe.training.learning_rate = 0.001, and now it is 0.5",
        ),
    ],
)
def test_other_figures_under_the_same_name_are_rejected(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    made = record("a")
    with Store(tmp_path / "cells.jsonl") as store:
        store.append(made)
        with pytest.raises(ConfigError) as error:
            store.find("a", made.identity.model_copy(update=change))
    assert "cells.jsonl holds a " + message in str(error.value)
    assert "delete the lines" in str(error.value)


def test_two_grids_cannot_write_one_folder_but_anyone_may_look(tmp_path: Path) -> None:
    path = filled(tmp_path / "cells.jsonl")
    with Store(path) as store:
        with pytest.raises(ConfigError, match="another grid is running"):
            Store(path)
        store.append(record("c"))
        assert names(path, writing=False) == ["a", "b", "c"]
    assert names(path) == ["a", "b", "c"]


def test_looking_makes_no_file(tmp_path: Path) -> None:
    assert names(tmp_path / "nowhere" / "cells.jsonl", writing=False) == []
    assert list(tmp_path.iterdir()) == []


def test_files_put_together_keep_the_first_of_two(tmp_path: Path) -> None:
    first, second = filled(tmp_path / "1.jsonl"), tmp_path / "2.jsonl"
    with Store(second) as store:
        store.append(record("a", 0.9))
    both = tmp_path / "cells.jsonl"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    with Store(both) as store:
        kept: Record = store.records["a"]
    assert kept.encoded is not None
    assert kept.encoded.map_exact == 0.25


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot open"):
        Store(tmp_path / "file" / "cells.jsonl")
