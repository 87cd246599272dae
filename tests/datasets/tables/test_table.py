"""CSV and Parquet lists of photos."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvus_fghash.datasets.dataset import summary
from milvus_fghash.datasets.read import read
from milvus_fghash.datasets.tables.columns import Column
from milvus_fghash.errors import ConfigError, DataError, MissingExtra

pytestmark = pytest.mark.full

FULL = "id,path,label,split,camera\nx,jay/a.jpg,jay,train,old\ny,./wren//b.jpg,wren,test,\n"


def csv(folder: Path, text: str) -> Path:
    file = folder / "photos.csv"
    file.write_text(text, encoding="utf-8")
    return file


def parquet(folder: Path, columns: dict[str, list[object]]) -> Path:
    from pyarrow import lib
    from pyarrow import parquet as writer

    file = folder / "photos.parquet"
    writer.write_table(lib.table(columns), file)  # type: ignore[no-untyped-call]
    return file


def fault(file: Path) -> str:
    with pytest.raises(DataError) as caught:
        read("table", file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_csv_with_all_columns_and_one_more(tmp_path: Path) -> None:
    dataset = read("table", csv(tmp_path, FULL))
    assert dataset.root == tmp_path
    assert dataset.ids == ("x", "y")
    assert dataset.paths == ("jay/a.jpg", "wren/b.jpg")
    assert dataset.labels == ("jay", "wren")
    assert dataset.splits == ("train", "test")


def test_a_column_of_several_labels(tmp_path: Path) -> None:
    dataset = read("table", csv(tmp_path, "path,labels,split\na.jpg,sky| water,train\nb.jpg,sky,train\nc.jpg,,test\n"))
    assert dataset.labels == ("|sky|water|", "|sky|", "")
    assert dataset.classes == ("", "sky", "water")
    assert dataset.splits == ("train", "train", "test")
    assert dataset.extra_columns.values == {"labels": ("sky| water", "sky", None)}  # for typed columns of collections
    assert "2 classes, 1.5 labels a photo (from the column 'labels'), 1 photo without" in summary(dataset)


def test_a_column_of_lists_of_labels(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {"path": ["a.jpg", "b.jpg", "c.jpg"], "labels": [["sky", "water"], [], None]}
    assert read("table", parquet(tmp_path, columns)).labels == ("|sky|water|", "", "")
    columns["labels"] = [[7, 12], [7], [12]]
    assert read("table", parquet(tmp_path, columns)).labels == ("|12|7|", "|7|", "|12|")
    columns["labels"] = [["a|b"], [], []]
    assert "row 1: the label 'a|b' contains '|'" in fault(parquet(tmp_path, columns))


def test_labels_beside_a_label_are_a_further_column(tmp_path: Path) -> None:
    dataset = read("table", csv(tmp_path, "path,label,labels\na.jpg,jay,sky|water\n"))
    assert dataset.labels == ("jay",)
    assert dataset.extra_columns.values == {"labels": ("sky|water",)}


def test_path_alone_is_enough(tmp_path: Path) -> None:
    dataset = read("table", csv(tmp_path, "path\na.jpg\n\nb.jpg\n"))
    assert dataset.ids == dataset.paths == ("a.jpg", "b.jpg")
    assert dataset.labels == dataset.splits == ("", "")


def test_quotes_line_ends_and_byte_order_mark_of_a_spreadsheet(tmp_path: Path) -> None:
    dataset = read("table", csv(tmp_path, '\ufeffpath,label\r\n"a, b.jpg","Jay, ""blue"""\r\n'))
    assert (dataset.paths, dataset.labels) == (("a, b.jpg",), ('Jay, "blue"',))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.jpg,jay\n", "has no column 'path'; found the columns 'file', 'label'"),
        ("", "has no column 'path'; found the columns none"),
        ("path,path\na,b\n", "the column 'path' twice"),
        ("path,label\na.jpg,jay\nb.jpg\n", "photos.csv, line 3: expected 2 fields, got 1"),
        ("path\n../a.jpg\n", "photos.csv, line 2: the path '../a.jpg'"),
        ("path,label\n,jay\n", "photos.csv, line 2 has no path"),
        ('path\n"a.jpg\n', "photos.csv, line 2: unexpected end"),
        ("path\na.jpg\na.jpg\n", "id 'a.jpg' occurs twice"),
        ("path\n", "no photos found"),
    ],
)
def test_csv_faults(text: str, message: str, tmp_path: Path) -> None:
    assert message in fault(csv(tmp_path, text))


def test_csv_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "photos.csv").write_bytes("path\ncafé.jpg\n".encode("latin-1"))
    assert "save it as UTF-8" in fault(tmp_path / "photos.csv")


def test_parquet(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {"label": [3, None], "path": ["a.jpg", "b/c.jpg"], "width": [1.5, 2.5]}
    dataset = read("table", parquet(tmp_path, columns))
    assert dataset.ids == dataset.paths == ("a.jpg", "b/c.jpg")
    assert dataset.labels == ("3", "")


@pytest.mark.parametrize("column", ["label", "split", "id"])
def test_a_missing_number_is_no_text(column: str, tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {"path": ["a.jpg", "b.jpg", "c.jpg"], column: [1.5, float("nan"), None]}
    dataset = read("table", parquet(tmp_path, columns))
    missing = ("b.jpg", "c.jpg") if column == "id" else ("", "")
    assert getattr(dataset, f"{column}s") == ("1.5", *missing)
    assert dataset.extra_columns.known(1) == dataset.extra_columns.known(2) == {}


def test_a_missing_path_is_said(tmp_path: Path) -> None:
    file = parquet(tmp_path, {"path": [1.5, float("nan")]})
    assert fault(file) == f"{file}, row 2 has no path"
    file = csv(tmp_path, "id,path\n1,a.jpg\n2,\n")
    assert fault(file) == f"{file}, line 3 has no path"


@pytest.mark.parametrize("column", ["label", "split", "id"])
@pytest.mark.parametrize(
    ("cells", "texts"),
    [
        ([1001.0, None, float("nan"), -2.0], ["1001", "", "", "-2"]),
        ([Decimal("1001.00"), None, Decimal("1E+1"), Decimal("0.00")], ["1001", "", "10", "0"]),
        ([Decimal("12345678901234567890.0"), None, None, None], ["12345678901234567890", "", "", ""]),
        ([1001.0, None, 2.5, 3.0], ["1001.0", "", "2.5", "3.0"]),
        ([1.0, 2.0**60, float("inf"), None], ["1.0", str(2.0**60), "inf", ""]),
        ([None, None, None, None], ["", "", "", ""]),
    ],
)
def test_whole_numbers_with_a_gap_are_whole(column: str, cells: list[object], texts: list[str], tmp_path: Path) -> None:
    """pandas writes them as doubles."""
    paths = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    columns: dict[str, list[object]] = {"path": list(paths), column: cells, "price": [1.0, None, 2.0, 3.0]}
    dataset = read("table", parquet(tmp_path, columns))
    expected = [text or path for text, path in zip(texts, paths, strict=True)] if column == "id" else texts
    assert getattr(dataset, f"{column}s") == tuple(expected)
    assert dataset.extra_columns.values["price"] == (1.0, None, 2.0, 3.0)


def test_messages_name_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet(tmp_path, {"id": ["x", "x"], "path": ["a.jpg", "b.jpg"]})
    csv(tmp_path, FULL)
    monkeypatch.chdir(tmp_path)
    assert fault(Path("photos.parquet")).startswith("id 'x' occurs twice in photos.parquet;")
    dataset = read("table", Path("photos.csv"))
    assert str(dataset.origin) == "photos.csv"
    assert summary(dataset).startswith("2 photos in photos.csv; 2 classes (")
    with pytest.raises(DataError, match=r"no photo belongs to the split 'val' in photos\.csv"):
        dataset.split("val")


@pytest.mark.parametrize("cell", [b"jay", ["jay"], {"name": "jay"}], ids=["bytes", "list", "structure"])
@pytest.mark.parametrize("column", ["path", "id", "label", "split"])
def test_what_no_text_can_be_made_of_is_rejected(column: str, cell: object, tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {"path": ["a.jpg"], column: [cell]}
    assert f"the column {column!r} holds" in (message := fault(parquet(tmp_path, columns)))
    assert message.endswith("expected texts or numbers")


def test_a_missing_number_inside_a_cell_is_none(tmp_path: Path) -> None:
    nan = float("nan")
    columns: dict[str, list[object]] = {"path": ["a.jpg"], "size": [[1.5, nan]], "box": [{"x": nan, "y": [nan]}]}
    cells = read("table", parquet(tmp_path, columns)).extra_columns
    assert cells.known(0) == {"size": [1.5, None], "box": {"x": None, "y": [None]}}


def test_own_ids_are_kept_as_texts(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {"path": ["a.jpg", "b.jpg"], "id": [1001, None]}
    dataset = read("table", parquet(tmp_path, columns))
    assert dataset.ids == ("1001", "b.jpg")
    assert (dataset.extra_columns.known(0), dataset.extra_columns.known(1)) == ({"id": "1001"}, {})
    with pytest.raises(ConfigError, match=r"no column 'ids'\. It has only path, id, label and split"):
        dataset.extra_columns.column("ids")


def test_texts_of_newer_writers_are_texts(tmp_path: Path) -> None:
    from pyarrow import lib
    from pyarrow import parquet as writer

    if not hasattr(lib, "string_view"):
        pytest.skip("pyarrow knows no such type")
    words = lib.array(["a.jpg"], lib.string_view())
    writer.write_table(lib.table({"path": words, "brand": words}), tmp_path / "photos.parquet")  # type: ignore[no-untyped-call]
    assert read("table", tmp_path / "photos.parquet").extra_columns.known(0) == {"brand": "a.jpg"}


def test_csv_and_parquet_give_the_same(tmp_path: Path) -> None:
    header, *rows = [line.split(",") for line in FULL.splitlines()]
    columns: dict[str, list[object]] = {name: [row[place] for row in rows] for place, name in enumerate(header)}
    assert read("table", parquet(tmp_path, columns)) == read("table", csv(tmp_path, FULL))


def test_parquet_faults(tmp_path: Path) -> None:
    assert "no column 'path'; found the columns 'file'" in fault(parquet(tmp_path, {"file": ["a.jpg"]}))
    assert "row 2 has no path" in fault(parquet(tmp_path, {"path": ["a.jpg", None]}))
    (tmp_path / "photos.parquet").write_text("no parquet")
    assert "cannot be read as Parquet" in fault(tmp_path / "photos.parquet")


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = parquet(tmp_path, {"path": ["a.jpg"]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"milvus-fghash\[parquet\]"):
        read("table", file)


def test_no_such_table(tmp_path: Path) -> None:
    assert "there is no file" in fault(tmp_path / "photos.csv")
    assert "there is no file" in fault(tmp_path.with_suffix(".csv"))
    assert ".csv or .parquet" in fault(tmp_path / "photos.xlsx")
    (tmp_path / "folder.csv").mkdir()
    assert "there is no file" in fault(tmp_path / "folder.csv")


def test_csv_on_a_failing_disk(tmp_path: Path) -> None:
    (tmp_path / "photos.csv").symlink_to("/proc/self/mem")  # a file whose reading fails, for root as well
    assert "cannot read" in fault(tmp_path / "photos.csv")


def test_many_rows_take_time_in_proportion(tmp_path: Path) -> None:
    file = csv(tmp_path, "path\n" + "".join(f"birds/{number}.jpg\n" for number in range(100_000)))
    start = time.process_time()
    assert len(read("table", file)) == 100_000
    assert time.process_time() - start < 10  # 0.3 s; comparing all pairs takes minutes


MORE = ",path,label,price,brand,,note\n0,a.jpg,jay,1.50,acme,0,\n1,b.jpg,jay,,'é',1,x y\n"


def test_further_columns_of_csv_are_texts_and_empty_ones_are_missing(tmp_path: Path) -> None:
    dataset = read("table", csv(tmp_path, MORE))
    assert dataset.extra_columns.values == {"price": ("1.50", None), "brand": ("acme", "'é'"), "note": (None, "x y")}
    assert [dataset.extra_columns.known(row) for row in (0, 1)] == [
        {"price": "1.50", "brand": "acme"},
        {"brand": "'é'", "note": "x y"},
    ]
    assert dataset.extra_columns.column("price") == Column("price", "text")
    assert dataset.take([1]).extra_columns.known(0) == {"brand": "'é'", "note": "x y"}
    with pytest.raises(DataError, match=r"photos.csv, line 3, column 'price': the value is missing"):
        dataset.as_columns([Column("price", "double")])


def test_a_line_number_counts_blank_lines_and_breaks_inside_quotes(tmp_path: Path) -> None:
    dataset = read("table", csv(tmp_path, 'path,price,note\na.jpg,1,"two\nlines"\n\nb.jpg,x,\n'))
    with pytest.raises(DataError, match=r"photos.csv, line 5, column 'price': 'x' is not of type int64"):
        dataset.as_columns([Column("price", "int64")])


def test_a_further_column_that_stands_twice_is_rejected(tmp_path: Path) -> None:
    assert "the column 'price' twice" in fault(csv(tmp_path, "path,price,price\na.jpg,1,2\n"))


def test_columns_of_parquet_keep_their_types(tmp_path: Path) -> None:
    noon = datetime(2024, 5, 1, 12, 30)
    columns: dict[str, list[object]] = {
        "path": ["a.jpg", "b.jpg"],
        "stock": [2**63 - 1, None],
        "price": [0.1, float("nan")],
        "sold": [True, False],
        "brand": ["acme", ""],
        "taken": [noon, None],
        "day": [noon.date(), None],
        "cost": [Decimal("9.90"), None],
        "tags": [["a", "b"], []],
        "box": [{"x": 1, "y": None}, None],
        "nothing": [None, None],
        "thumbnail": [b"\xff\xd8", b""],
        "times": [[noon], []],
    }
    cells = read("table", parquet(tmp_path, columns)).extra_columns
    assert cells.known(0) == {
        "stock": 2**63 - 1,
        "price": 0.1,
        "sold": True,
        "brand": "acme",
        "taken": "2024-05-01 12:30:00.000000",
        "day": "2024-05-01",
        "cost": 9.9,
        "tags": ["a", "b"],
        "box": {"x": 1, "y": None},
    }
    assert cells.known(1) == {"sold": False, "tags": []}
    kinds = {"stock": "int64", "price": "double", "sold": "bool", "brand": "text", "taken": "text", "cost": "double"}
    for name, kind in kinds.items():
        assert cells.column(name).type == kind
    with pytest.raises(DataError, match=r"photos.parquet, row 2, column 'stock': the value is missing"):
        cells.as_columns([Column("stock", "int64")])


def test_a_nanosecond_is_read_without_pandas(tmp_path: Path) -> None:
    from pyarrow import lib
    from pyarrow import parquet as writer

    times = lib.array([1_714_557_600_000_000_001], lib.timestamp("ns"))
    words = lib.array(["acme"]).dictionary_encode()
    table = lib.table({"path": ["a.jpg"], "taken": times, "brand": words})
    writer.write_table(table, tmp_path / "photos.parquet")  # type: ignore[no-untyped-call]
    cells = read("table", tmp_path / "photos.parquet").extra_columns
    assert cells.known(0) == {"taken": "2024-05-01 10:00:00.000000001", "brand": "acme"}
    assert cells.column("brand").type == "text"


CELL = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))


@given(st.lists(CELL, min_size=1, max_size=8), st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=8))
def test_parquet_gives_back_what_was_written(numbers: list[int | None], texts: list[str]) -> None:
    texts = texts[: len(numbers)]
    with TemporaryDirectory() as folder:
        columns: dict[str, list[object]] = {"path": [f"{row}.jpg" for row in range(len(numbers))]}
        cells = read("table", parquet(Path(folder), {**columns, "n": [*numbers], "t": [*texts]})).extra_columns
    assert cells.values["n"] == tuple(numbers)
    assert cells.values["t"] == tuple(text or None for text in texts)
