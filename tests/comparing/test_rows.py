"""Which rows there are: heads for those that use one, none dropped in silence."""

from __future__ import annotations

import pytest

from milvus_fghash import methods
from milvus_fghash.comparing.rows import ABLATION_NOTES, ABLATIONS, ablated_rows, compared_rows
from milvus_fghash.errors import ConfigError
from milvus_fghash.methods import METHODS, Card
from milvus_fghash.recipe_book import compose


def test_a_method_with_a_projection_of_its_own_stands_once() -> None:
    rows, notes = compared_rows("frozen", ["baseline", "lsh", "baseline"], ["mlp", "linear", "mlp"], [])
    assert [(row.label, row.method, row.head) for row in rows] == [
        ("lsh", "lsh", None),
        ("baseline", "baseline", "mlp"),
        ("baseline", "baseline", "linear"),
    ]
    assert notes == ()
    assert len({row.name for row in rows}) == 3


def test_methods_on_maps_are_named_where_the_trunk_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(methods.METHODS, "fcaenet", Card("title", "source", "network+codes", needs="maps"))
    rows, notes = compared_rows("frozen", ["lsh", "fcaenet"], ["linear"], [])
    assert [row.method for row in rows] == ["lsh"]
    assert notes == ("Not applicable on a frozen trunk, for they work on its maps: fcaenet.",)
    rows, notes = compared_rows("frozen", ["lsh", "fcaenet"], ["linear"], ["trunk.frozen=false"])
    assert [row.method for row in rows] == ["lsh", "fcaenet"]
    assert notes == ()
    with pytest.raises(ConfigError, match=r"none of the methods fits frozen\. .*maps: fcaenet"):
        compared_rows("frozen", ["fcaenet"], ["linear"], [])


def test_no_name_means_every_method() -> None:
    rows, notes = compared_rows("demo", [], ["linear"], [])
    assert {row.method for row in rows} == set(METHODS)
    assert notes == ()


def test_a_row_whose_method_cannot_have_the_head_is_left_out_and_said() -> None:
    rows, notes = compared_rows("finetune", [], ["linear", "mlp"], [])
    heads = {method: [row.head for row in rows if row.method == method] for method in METHODS}
    assert (heads["a2net"], heads["baseline"], heads["itq"]) == (["linear"], ["linear", "mlp"], [None])
    assert notes == ("There is no mlp head for: a2net, a2net-pp.",)
    with pytest.raises(ConfigError, match=r"none of the methods fits demo\. There is no mlp head for: a2net"):
        compared_rows("demo", ["a2net"], ["mlp"], [])


@pytest.mark.parametrize(
    ("names", "heads", "message"),
    [
        (["bseline"], ["linear"], "no method named 'bseline'. Did you mean baseline"),
        (["lsh"], ["linaer"], "no head named 'linaer'. Did you mean linear"),
    ],
)
def test_unknown_names_meet_the_nearest(names: list[str], heads: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compared_rows("demo", names, heads, [])


def test_no_ablation_of_a_method_without_parts() -> None:
    with pytest.raises(ConfigError, match="no ablation of 'lsh'"):
        ablated_rows("lsh", ["linear"])
    with pytest.raises(ConfigError, match="no head named"):
        ablated_rows("fcaenet", ["square"])


def test_the_ablation_has_the_papers_tables() -> None:
    rows = ablated_rows("fcaenet", ["linear"])
    options = {row: compose("demo", "fcaenet", row.changes).method.options for row in rows}
    config = methods.load("fcaenet").Config

    def of(group: str, *names: str) -> list[tuple[object, ...]]:
        made = [config(**options[row]).model_dump() for row in rows if row.group == group]
        return [tuple(values[name] for name in names) for values in made]

    full = (20.0, 20.0)  # what the demo's setting says
    assert of("Components", "alpha", "beta") == [(0, 0), (0, 20), (20, 0), full]
    assert of("Number of boxes", "boxes", "box_size") == [(10, 32), (50, 32), (100, 32), (150, 32)]
    assert of("Size of a box", "boxes", "box_size") == [(50, 16), (50, 32), (50, 64), (50, 128)]


@pytest.mark.parametrize("method", ABLATIONS)
def test_rows_that_are_the_same_training_share_their_cells(method: str) -> None:
    rows = ablated_rows(method, ["linear", "mlp"])
    assert len(set(rows)) == len(rows)
    assert {row.name for row in rows if not row.changes} == {f"{method}-linear", f"{method}-mlp"}
    assert len({row.name for row in rows}) == len({(row.head, row.changes) for row in rows})


def test_every_ablation_says_what_its_labels_mean() -> None:
    assert ABLATION_NOTES.keys() == ABLATIONS.keys()
