"""The variants of a comparison and of an ablation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from pydantic import BaseModel

from milvus_fghash.errors import ConfigError, nearest
from milvus_fghash.experiments.grid import Variant
from milvus_fghash.methods import METHODS, card, load
from milvus_fghash.recipes.loader import compose
from milvus_fghash.recipes.schema import HeadChoice

HEADS: tuple[str, ...] = get_args(HeadChoice.model_fields["kind"].annotation)

GRID_SETTINGS = {"head.kind": "heads", "training.seed": "seeds", "method.options.seed": "seeds"}
"""Recipe key that the grid itself sets for each cell -> the setting of the grid that decides it."""

LabelledChanges = tuple[str, tuple[str, ...]]
"""Label, and changes of the recipe."""

ABLATIONS: dict[str, dict[str, tuple[LabelledChanges, ...]]] = {
    "fcaenet": {
        "Components": (
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
            ("without erasing", ("method.options.erasing=0",)),
            ("+erasing", ()),
        ),
        "Class codes": (
            ("random", ("method.options.codebook='bernoulli'", "method.options.placed=false")),
            ("far apart", ("method.options.placed=false",)),
            ("far apart and placed", ()),
        ),
        "Class uncertainty in the code": (
            ("none: code of the most likely class", ("method.options.temperature=0.01",)),
            ("log odds of each bit, T = 1", ("method.options.most_weighed=0", "method.options.temperature=1")),
            ("log odds of each bit", ("method.options.most_weighed=0",)),
            ("expected code utility, where codes are short", ()),
        ),
    },
}
"""Method -> heading -> variants. FCAENet: the paper's Tables 2 to 4."""

ABLATION_NOTES = {
    "fcaenet": "+SREM uses only the loss term of the erased photo (beta), +ESRL only that of the positive photo "
    "(alpha); the paper does not define SREM without ESRL, whose loss has both terms (eq. 9). Box sizes are those in a "
    "photo of 224 pixels and scale with the photo.",
    "kinhash": "T is the softmax temperature: how much class uncertainty the code keeps. Where no T is given, the "
    "method derives it from the number of classes and bits.",
}
"""Method -> a note below the tables."""


def comparison_variants(
    setting: str, methods: Sequence[str], heads: Sequence[str], changes: Sequence[str]
) -> tuple[tuple[Variant, ...], tuple[str, ...]]:
    """Variants of a comparison, and notes on what is not applicable in the setting.

    Without any name: all methods; without any head: that of each method's recipe. Methods that are not trained by
    gradient descent have no head, so each of them is one variant.

    Raises:
        ConfigError: for an unknown method or head, or when no variant is left.
    """
    _check_heads(heads)
    _check_changes(changes)
    methods = list(dict.fromkeys(methods)) or list(METHODS)
    for method in methods:
        card(method)
    on_maps = [
        method
        for method in methods
        if card(method).needs == "maps" and compose(setting, method, changes).backbone.frozen
    ]
    left = [method for method in methods if method not in on_maps]
    if heads:
        variants = tuple(_variants_of(left, tuple(dict.fromkeys(heads))))
    else:
        variants = tuple(Variant(method, method, _own_head(setting, method, changes)) for method in left)
    headless = {
        head: [method for method in left if card(method).by_gradient and head not in card(method).heads]
        for head in heads
    }
    notes = (
        [f"Not applicable to a frozen backbone, because they need its feature maps: {', '.join(on_maps)}."]
        if on_maps
        else []
    )
    notes += [f"No {head} head: {', '.join(without)}." for head, without in headless.items() if without]
    if not variants:
        raise ConfigError(f"none of the methods can be trained with {setting}. {' '.join(notes)}", setting="methods")
    return variants, tuple(notes)


def ablation_variants(
    setting: str, method: str, heads: Sequence[str], bits: Sequence[int], changes: Sequence[str]
) -> tuple[Variant, ...]:
    """Variants of a method's ablation, group by group. A variant that equals the recipe has no changes, so that it
    shares the cells of the complete method.

    Raises:
        ConfigError: when the method has no ablation, or a change sets what the ablation varies.
    """
    if method not in ABLATIONS:
        raise ConfigError(f"there is no ablation of {method!r}. {nearest(method, ABLATIONS)}", setting="method")
    _check_heads(heads)
    _check_changes(changes)
    groups = ABLATIONS[method]
    varied = {_key(change) for group in groups.values() for _, own in group for change in own}
    if conflicts := [change for change in changes if _key(change) in varied]:
        raise ConfigError(
            f"{conflicts[0]} sets what this ablation varies; leave it out, or compare methods instead",
            setting="changes",
        )

    def options(own: tuple[str, ...]) -> list[BaseModel]:
        recipe = compose(setting, method, [*changes, *own])
        return [load(method).Config(**recipe.at(length).method.options) for length in bits]

    complete = options(())
    kinds: Sequence[str | None] = heads or (_own_head(setting, method, changes),)
    return tuple(
        Variant(label, method, head, () if options(own) == complete else own, name)
        for name, group in groups.items()
        for head in dict.fromkeys(kinds)
        for label, own in group
    )


def _check_heads(heads: Sequence[str]) -> None:
    for head in heads:
        if head not in HEADS:
            raise ConfigError(f"no head named {head!r}. {nearest(head, HEADS)}", setting="heads")


def _check_changes(changes: Sequence[str]) -> None:
    for change in changes:
        if setting := GRID_SETTINGS.get(_key(change).strip()):
            raise ConfigError(
                f"{change} has no effect, because the grid sets it for each training: choose the {setting} of the grid",
                setting=setting,
            )


def _key(change: str) -> str:
    return change.partition("=")[0]


def _own_head(setting: str, method: str, changes: Sequence[str]) -> str | None:
    """The head of the method's recipe; of one that it cannot have, its own instead; None if it has no choice of heads.

    A user's setting may name one head for methods of which some have no such head.
    """
    if not card(method).by_gradient:
        return None
    kind, possible = compose(setting, method, changes).head.kind, card(method).heads
    return kind if kind in possible else possible[0]


def _variants_of(methods: Sequence[str], heads: Sequence[str]) -> Iterator[Variant]:
    yield from (Variant(method, method) for method in methods if not card(method).by_gradient)
    for head in heads:
        with_head = (method for method in methods if card(method).by_gradient and head in card(method).heads)
        yield from (Variant(method, method, head) for method in with_head)
