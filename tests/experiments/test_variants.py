"""Which rows there are: heads for those that use one, none dropped in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvus_fghash import methods
from milvus_fghash.errors import ConfigError
from milvus_fghash.experiments.variants import ABLATION_NOTES, ABLATIONS, ablation_variants, comparison_variants
from milvus_fghash.methods import METHODS, Card
from milvus_fghash.recipes.loader import compose


def test_a_method_with_a_projection_of_its_own_stands_once() -> None:
    variants, notes = comparison_variants("frozen", ["baseline", "lsh", "baseline"], ["mlp", "linear", "mlp"], [])
    assert [(variant.label, variant.method, variant.head) for variant in variants] == [
        ("lsh", "lsh", None),
        ("baseline", "baseline", "mlp"),
        ("baseline", "baseline", "linear"),
    ]
    assert notes == ()
    assert len({variant.name for variant in variants}) == 3


def test_methods_on_maps_are_named_where_the_backbone_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(methods.METHODS, "fcaenet", Card("title", "source", "network+codes", needs="maps"))
    variants, notes = comparison_variants("frozen", ["lsh", "fcaenet"], ["linear"], [])
    assert [variant.method for variant in variants] == ["lsh"]
    assert notes == ("Not applicable to a frozen backbone, because they need its feature maps: fcaenet.",)
    variants, notes = comparison_variants("frozen", ["lsh", "fcaenet"], ["linear"], ["backbone.frozen=false"])
    assert [variant.method for variant in variants] == ["lsh", "fcaenet"]
    assert notes == ()
    with pytest.raises(ConfigError, match=r"none of the methods can be trained with frozen\. .*maps: fcaenet"):
        comparison_variants("frozen", ["fcaenet"], ["linear"], [])


def test_no_name_means_every_method() -> None:
    variants, notes = comparison_variants("demo", [], ["linear"], [])
    assert {variant.method for variant in variants} == set(METHODS)
    assert notes == ()


def test_a_row_whose_method_cannot_have_the_head_is_left_out_and_said() -> None:
    variants, notes = comparison_variants("finetune", [], ["linear", "mlp"], [])
    heads = {method: [variant.head for variant in variants if variant.method == method] for method in METHODS}
    assert (heads["a2net"], heads["baseline"], heads["itq"]) == (["linear"], ["linear", "mlp"], [None])
    assert notes == ("No mlp head: a2net, a2net-pp, posterior-itq.",)
    with pytest.raises(ConfigError, match=r"none of the methods can be trained with demo\. No mlp head: a2net"):
        comparison_variants("demo", ["a2net"], ["mlp"], [])


def test_without_a_head_each_method_has_that_of_its_recipe(tmp_path: Path) -> None:
    """So a table shows what `train` makes, and a head that a method cannot have drops none."""
    variants, notes = comparison_variants("frozen", [], [], [])
    heads = {variant.method: variant.head for variant in variants}
    assert len(heads) == len(variants)
    assert heads == {
        method: compose("frozen", method).head.kind if card.by_gradient else None
        for method, card in METHODS.items()
        if card.needs == "features"
    }
    assert (heads["kinhash"], heads["posterior-itq"], heads["itq"]) == ("mlp", "linear", None)
    assert notes == ("Not applicable to a frozen backbone, because they need its feature maps: "
                     "fph, dash, exchnet, a2net, a2net-pp, semicon, agmh.",)  # fmt: skip
    assert {variant.head for variant in ablation_variants("frozen", "kinhash", [], [12], [])} == {"mlp"}
    assert {variant.head for variant in ablation_variants("demo", "kinhash", [], [12], [])} == {"linear"}

    (tmp_path / "mine.toml").write_text('[head]\nkind = "mlp"\n')
    variants, _ = comparison_variants(str(tmp_path / "mine.toml"), ["a2net", "baseline"], [], [])
    assert [variant.head for variant in variants] == ["linear", "mlp"]


@pytest.mark.parametrize(
    ("names", "heads", "message"),
    [
        (["bseline"], ["linear"], "no method named 'bseline'. Did you mean baseline"),
        (["lsh"], ["linaer"], "no head named 'linaer'. Did you mean linear"),
    ],
)
def test_unknown_names_meet_the_nearest(names: list[str], heads: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        comparison_variants("demo", names, heads, [])


def test_no_ablation_of_a_method_without_parts() -> None:
    with pytest.raises(ConfigError, match="there is no ablation of 'lsh'"):
        ablation_variants("demo", "lsh", ["linear"], [12], [])
    with pytest.raises(ConfigError, match="no head named"):
        ablation_variants("demo", "fcaenet", ["square"], [12], [])


def test_what_is_varied_cannot_be_set_as_well() -> None:
    """The row "+SREM +ESRL" would be without ESRL."""
    with pytest.raises(ConfigError, match=r"method.options.alpha=0 sets what this ablation varies"):
        ablation_variants("demo", "fcaenet", ["linear"], [12], ["training.rounds=1", "method.options.alpha=0"])


def test_labels_are_true_whatever_the_setting_says(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        "[only.fcaenet.method.options]\nboxes = 100\n[only.fcaenet.by_bits.48.method.options]\nbox_size = 64\n"
    )
    setting = str(tmp_path / "mine.toml")
    variants = ablation_variants(setting, "fcaenet", ["linear"], [12, 48], [])
    changes = {variant.label: variant.changes for variant in variants}
    assert (changes["50 boxes"], changes["100 boxes"]) == (("method.options.boxes=50",), ())
    assert (changes["32 pixels"], changes["64 pixels"]) == (
        ("method.options.box_size=32",),
        ("method.options.box_size=64",),
    )
    assert {variant.label: variant.changes for variant in ablation_variants(setting, "fcaenet", ["linear"], [12], [])}[
        "32 pixels"
    ] == ()


def test_the_ablation_has_the_papers_tables() -> None:
    variants = ablation_variants("demo", "fcaenet", ["linear"], [12, 48], [])
    options = {variant: compose("demo", "fcaenet", variant.changes).method.options for variant in variants}
    config = methods.load("fcaenet").Config

    def of(group: str, *names: str) -> list[tuple[object, ...]]:
        made = [config(**options[variant]).model_dump() for variant in variants if variant.group == group]
        return [tuple(values[name] for name in names) for values in made]

    full = (20.0, 20.0)  # what the demo's setting says
    assert of("Components", "alpha", "beta") == [(0, 0), (0, 20), (20, 0), full]
    assert of("Number of boxes", "boxes", "box_size") == [(10, 32), (50, 32), (100, 32), (150, 32)]
    assert of("Size of a box", "boxes", "box_size") == [(50, 16), (50, 32), (50, 64), (50, 128)]


@pytest.mark.parametrize("method", ABLATIONS)
def test_rows_that_are_the_same_training_share_their_cells(method: str) -> None:
    variants = ablation_variants("frozen", method, ["linear", "mlp"], [12, 48], [])
    assert len(set(variants)) == len(variants)
    assert sum(not variant.changes for variant in variants) == 2 * len(ABLATIONS[method])
    assert {variant.name for variant in variants if not variant.changes} == {f"{method}-linear", f"{method}-mlp"}
    assert len({variant.name for variant in variants}) == len({(variant.head, variant.changes) for variant in variants})


def test_every_ablation_says_what_its_labels_mean() -> None:
    assert ABLATION_NOTES.keys() == ABLATIONS.keys()
