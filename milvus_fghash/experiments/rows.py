"""Which rows a comparison or an ablation has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from pydantic import BaseModel

from milvus_fghash.errors import ConfigError, nearest
from milvus_fghash.experiments.grid import Row
from milvus_fghash.methods import METHODS, card, load
from milvus_fghash.recipes.loader import compose
from milvus_fghash.recipes.schema import HeadChoice

HEADS: tuple[str, ...] = get_args(HeadChoice.model_fields["kind"].annotation)

CHOSEN = {"head.kind": "heads", "training.seed": "seeds", "method.options.seed": "seeds"}
"""Key of a recipe that differs from cell to cell -> the setting of the grid that says how."""

Variant = tuple[str, tuple[str, ...]]
"""Label, and changes of the recipe."""

ABLATIONS: dict[str, dict[str, tuple[Variant, ...]]] = {
    "fcaenet": {
        "UnionFind": (
            ("Baseline", ("method.options.alpha=0", "method.options.beta=0")),
            ("+SREM", ("method.options.alpha=0",)),
            ("+ESRL", ("method.options.beta=0",)),
            ("+SREM +ESRL", ()),
        ),
        "Number of boxes": (
            ("10 boxes", ("method.options.boxes=10",)),
            ("50 boxes", ("method.options.boxes=50",)),
            ("100 boxes", ("method.options.boxes=100",)),
            ("150 boxes", ("method.options.boxes=150",)),
        ),
        "Size of a box": (
            ("16 pixels", ("method.options.box_size=16",)),
            ("32 pixels", ("method.options.box_size=32",)),
            ("64 pixels", ("method.options.box_size=64",)),
            ("128 pixels", ("method.options.box_size=128",)),
        ),
    },
    "kinhash": {
        "Classifier": (
            ("plain", ("method.options.erasing=0",)),
            ("+erasing", ()),
        ),
        "Class codes": (
            ("random", ("method.options.codebook='bernoulli'", "method.options.placed=false")),
            ("far apart", ("method.options.placed=false",)),
            ("far apart and placed", ()),
        ),
        "Doubt": (
            ("none: the likeliest class's code", ("method.options.temperature=0.01",)),
            ("log odds, T = 1", ("method.options.most_weighed=0", "method.options.temperature=1")),
            ("log odds", ("method.options.most_weighed=0",)),
            ("short codes weighed", ()),
        ),
    },
}
"""Method -> heading -> variants. FCAENet: the paper's Tables 2 to 4."""

ABLATION_NOTES = {
    "fcaenet": "+SREM is the pull to the erased photo (beta) alone, +ESRL that to the positive photo (alpha) alone; "
    "the paper does not say what SREM is without ESRL, whose loss has both pulls (eq. 9). The size of a box is that in "
    "a photo of 224 pixels; others scale it.",
    "kinhash": "Doubt: how codes tell the classifier's doubt. Where T is not given, it is the method's own for the "
    "number of classes and bits.",
}
"""Method -> what stands above the tables."""


def compared_rows(
    setting: str, methods: Sequence[str], heads: Sequence[str], changes: Sequence[str]
) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Rows of a comparison, and notes on what is not applicable in the setting.

    No name at all means every method. Methods that learn nothing by gradient have projections of
    their own, so they stand in one row, whatever the heads.

    Raises:
        ConfigError: for an unknown method or head, or when nothing is left.
    """
    _check_heads(heads)
    _check_changes(changes)
    methods = list(dict.fromkeys(methods)) or list(METHODS)
    for method in methods:
        card(method)
    on_maps = [
        method for method in methods if card(method).needs == "maps" and compose(setting, method, changes).trunk.frozen
    ]
    left = [method for method in methods if method not in on_maps]
    rows = tuple(_rows_of(left, tuple(dict.fromkeys(heads))))
    headless = {
        head: [method for method in left if card(method).by_gradient and head not in card(method).heads]
        for head in heads
    }
    notes = [f"Not applicable on a frozen trunk, for they work on its maps: {', '.join(on_maps)}."] if on_maps else []
    notes += [f"There is no {head} head for: {', '.join(without)}." for head, without in headless.items() if without]
    if not rows:
        raise ConfigError(f"none of the methods fits {setting}. {' '.join(notes)}")
    return rows, tuple(notes)


def ablated_rows(
    setting: str, method: str, heads: Sequence[str], bits: Sequence[int], changes: Sequence[str]
) -> tuple[Row, ...]:
    """Rows of a method's ablation, group by group. A variant that says what the recipe says anyway changes nothing, so
    that it shares the cells of the whole method.

    Raises:
        ConfigError: when none is known of the method, or a change is of what the ablation varies.
    """
    if method not in ABLATIONS:
        raise ConfigError(f"no ablation of {method!r}. {nearest(method, ABLATIONS)}")
    _check_heads(heads)
    _check_changes(changes)
    varied = {_key(change) for variants in ABLATIONS[method].values() for _, variant in variants for change in variant}
    if taken := [change for change in changes if _key(change) in varied]:
        raise ConfigError(
            f"{taken[0]} is of what this ablation varies itself; leave it out, or use compare", setting="changes"
        )

    def options(variant: tuple[str, ...]) -> list[BaseModel]:
        recipe = compose(setting, method, [*changes, *variant])
        return [load(method).Config(**recipe.at(length).method.options) for length in bits]

    whole = options(())
    return tuple(
        Row(label, method, head, () if options(variant) == whole else variant, group)
        for group, variants in ABLATIONS[method].items()
        for head in dict.fromkeys(heads)
        for label, variant in variants
    )


def _check_heads(heads: Sequence[str]) -> None:
    for head in heads:
        if head not in HEADS:
            raise ConfigError(f"no head named {head!r}. {nearest(head, HEADS)}")


def _check_changes(changes: Sequence[str]) -> None:
    for change in changes:
        if setting := CHOSEN.get(_key(change).strip()):
            raise ConfigError(
                f"{change} has no effect, for the grid itself decides that: choose its {setting}", setting=setting
            )


def _key(change: str) -> str:
    return change.partition("=")[0]


def _rows_of(methods: Sequence[str], heads: Sequence[str]) -> Iterator[Row]:
    yield from (Row(method, method) for method in methods if not card(method).by_gradient)
    for head in heads:
        with_it = (method for method in methods if card(method).by_gradient and head in card(method).heads)
        yield from (Row(method, method, head) for method in with_it)
