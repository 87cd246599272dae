"""Text files of others: a byte order mark is skipped, and nesting that is too deep gives one sentence."""

from __future__ import annotations

import codecs
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from milvus_fghash.bundle.bundle import read_bundle
from milvus_fghash.core.file_models import Frozen, read_json
from milvus_fghash.core.text_file import MAX_DEPTH, parse_json, parse_toml, read_text
from milvus_fghash.datasets.layouts.text_lists import read_lines
from milvus_fghash.datasets.read import read
from milvus_fghash.dedupe.report import Duplicates
from milvus_fghash.errors import BundleError, ConfigError, DataError, FghashError
from milvus_fghash.evaluation.record import read_evaluation
from milvus_fghash.ingest.delete import read_ids
from milvus_fghash.milvus.schema import read_metadata
from milvus_fghash.recipes.loader import compose, load_recipe
from tests.helpers.commands import GOLDEN, Run
from tests.helpers.small_duplicates import duplicates

DEEP = 100_000


class Note(Frozen):
    word: str


def test_a_text_is_read_without_the_mark_and_with_one_kind_of_line_break(tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    file.write_bytes(codecs.BOM_UTF8 + "ä\r\nb\n".encode())
    assert read_text(file, "the file") == "ä\nb\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("ä".encode("latin-1"), "it is not UTF-8 text; save it as UTF-8"),
        ("a".encode("utf-16"), "it is not UTF-8 text"),
    ],
)
def test_a_text_that_cannot_be_read_is_one_line(content: bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    if content is not None:
        file.write_bytes(content)
    for kind in (ConfigError, DataError):
        with pytest.raises(kind, match=message) as caught:
            read_text(file, "the file", kind)
        assert str(caught.value).startswith(f"cannot read the file {file}: ")
    with pytest.raises(ConfigError, match="null"):
        read_text(tmp_path / "a\0b", "the file")


def nested_json(depth: int) -> str:
    """Tables and lists by turns."""
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"key": value}
    return json.dumps(value)


def nested_tables(depth: int) -> str:
    return f"{'.'.join(['key'] * depth)} = 1"


def nested_lists(depth: int) -> str:
    return f"key = {'[' * (depth - 1)}{']' * (depth - 1)}"


@pytest.mark.parametrize(
    ("parse", "text"), [(parse_json, nested_json), (parse_toml, nested_tables), (parse_toml, nested_lists)]
)
def test_what_code_could_not_walk_through_is_rejected(parse: Callable[[str], Any], text: Callable[[int], str]) -> None:
    parse(text(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 200 if parse is parse_toml else 900):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse(text(depth))


def test_what_is_nested_too_deep_is_a_value_error() -> None:
    for raw in ("[" * DEEP, b"[" * DEEP):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(raw)
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_toml("a = " + "[" * DEEP)


RECIPE = '[method]\nname = "lsh"\n'
READERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "recipe.toml": (lambda file: load_recipe(str(file)).method.name, RECIPE),
    "setting.toml": (lambda file: compose(str(file), "lsh").training.rounds, "[training]\nrounds = 7\n"),
    "ids.txt": (read_ids, "SKU-1\nSKU-2\n"),
    "lines.txt": (lambda file: [line for line, _ in read_lines(file)], "1 a\n"),
    "photos.csv": (lambda file: read("table", file).labels, "label,path\njay,a.jpg\n"),
    "note.json": (lambda file: read_json(file, Note, ""), '{"word": "ä"}'),
}


@pytest.mark.parametrize("name", READERS)
def test_a_byte_order_mark_changes_nothing(name: str, tmp_path: Path) -> None:
    reader, text = READERS[name]
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    expected = reader(file)
    file.write_text(text, encoding="utf-8-sig")
    assert reader(file) == expected


def test_a_byte_order_mark_in_settings_and_token(run: Run, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('[milvus]\nuri = "a.db"\ntoken_file = "token"\n', encoding="utf-8-sig")
    (tmp_path / "token").write_text("root:Milvus\n", encoding="utf-8-sig")
    result = run("doctor", "--config", "settings.toml", "--json")
    outcome = {line["setting"]: line["value"] for line in json.loads(result.stdout)["settings"]}
    assert (outcome["uri"], outcome["token"]) == ("a.db", "set")
    assert "U+FEFF" not in result.stderr
    assert "the token" not in result.stderr


def test_a_byte_order_mark_in_json_of_ours_that_an_editor_saved(tmp_path: Path) -> None:
    marked = tmp_path / "groups.json"
    duplicates([]).write(marked)
    marked.write_bytes(codecs.BOM_UTF8 + marked.read_bytes())
    assert Duplicates.read(marked) == duplicates([])
    bundle = shutil.copytree(GOLDEN, tmp_path / "bundle")
    manifest = bundle / "bundle.json"
    manifest.write_bytes(codecs.BOM_UTF8 + manifest.read_bytes())
    assert read_bundle(bundle).manifest == read_bundle(GOLDEN).manifest


def test_a_byte_order_mark_in_the_classes_of_an_archive(tmp_path: Path) -> None:
    texts = {"a.cls": b"jay\n", "b.json": b'{"label": "wren"}'}
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for name, text in texts.items():
            for member, raw in ((name, codecs.BOM_UTF8 + text), (f"{name[0]}.jpg", b"no photo")):
                info = tarfile.TarInfo(member)
                info.size = len(raw)
                archive.addfile(info, io.BytesIO(raw))
    dataset = read("archive", tmp_path / "photos.tar")
    assert dict(zip(dataset.paths, dataset.labels, strict=True)) == {"a.jpg": "jay", "b.jpg": "wren"}


@pytest.mark.parametrize(
    ("kind", "read_it"),
    [
        (ConfigError, lambda file: load_recipe(str(file.with_suffix(".toml")))),
        (DataError, lambda file: read_json(file, Note, "")),
        (DataError, Duplicates.read),
        (DataError, read_evaluation),
        (BundleError, lambda file: read_bundle(file.parent)),
    ],
)
def test_a_file_that_is_nested_too_deep_is_one_line(
    kind: type[FghashError], read_it: Callable[[Path], object], tmp_path: Path
) -> None:
    file = tmp_path / "bundle.json"
    file.write_text("[" * DEEP)
    file.with_suffix(".toml").write_text("a = " + "[" * DEEP)
    with pytest.raises(kind, match="nested too deeply"):
        read_it(file)


def test_what_is_nested_too_deep_elsewhere(run: Run) -> None:
    assert read_metadata("photos", "[" * DEEP) is None  # the description of a collection of others
    with pytest.raises(ConfigError, match=r"training\.rounds"):
        load_recipe("frozen-lsh", ["training.rounds=" + "[" * DEEP])  # no TOML, so a text
    Path("settings.toml").write_text("a = " + "[" * DEEP)
    assert "nested too deeply" in run("doctor", "--config", "settings.toml").stderr
