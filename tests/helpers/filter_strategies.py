"""Filters with what they mean: each is drawn as its text and as a condition in plain Python, side by side."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from milvus_fghash.milvus.rows import Rows

Row = dict[str, Any]
Meaning = Callable[[Row], bool]
Drawn = tuple[str, Meaning]

WORDS = ("robin", "Robin", "", "it's", 'a"b', "a\\b", "ünï", "100%", "a_b", "and", ") or (", "wren", "rob")
"""Texts of rows and of filters."""
NUMBERS = (0, 1, -1, 2, 3, 7, -5, 2**63 - 1, -(2**63) + 1)
FLOATS = (0.0, 1.0, -1.5, 2.5, 3.0, 1e300, -0.25)
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
JSON = st.sampled_from(("size", "tags", "name", "flag", "deep", "none", "a/b", "x~y"))
INNER: st.SearchStrategy[list[str | int]] = st.lists(st.sampled_from(("size", "list")) | st.integers(0, 1), max_size=2)
SPACE = st.sampled_from((" ", " ", "  ", "\n", "\t"))


def rows(n: int) -> list[Row]:
    """Rows whose values meet often."""
    metas: list[dict[str, Any]] = [
        {"size": 3, "tags": [1, "x", 2.5], "name": "robin", "flag": True, "deep": {"size": 3, "list": [3, 4]}},
        {"size": 2.5, "tags": ["x", "robin"], "name": "", "flag": False, "a/b": 3, "x~y": "robin"},
        {"size": "3", "tags": [], "name": 'a"b', "deep": [1, 2]},
        {"size": None, "name": "ünï", "flag": 1, "tags": 3},
        {},
        {"size": -1, "tags": [True, 3, -1], "name": "100%", "flag": "true"},
    ]
    return [
        {
            "id": f"{number:03}",
            "label": WORDS[number % len(WORDS)],
            "brand": WORDS[(number * 5 + 2) % len(WORDS)],
            "stock": NUMBERS[number % len(NUMBERS)],
            "price": FLOATS[number % len(FLOATS)],
            "sold": number % 3 == 0,
            "meta": metas[number % len(metas)],
        }
        for number in range(n)
    ]


def as_rows(made: Sequence[Row]) -> Rows:
    """For a collection with the typed columns price, stock, sold and brand."""
    n = len(made)
    texts = {name: tuple(row[name] for row in made) for name in ("id", "label", "meta")}
    columns = {name: tuple(row[name] for row in made) for name in ("price", "stock", "sold", "brand")}
    codes = np.zeros((n, 2), np.uint8)
    return Rows(texts["id"], codes, ("p",) * n, texts["label"], ("",) * n, texts["meta"], columns)


def quoted(text: str, single: bool) -> str:
    quote = "'" if single else '"'
    inner = text.replace("\\", "\\\\").replace(quote, f"\\{quote}")
    return f"{quote}{inner}{quote}"


def kind(value: Any) -> str:
    """JSON's: numbers of both types are one."""
    names = {bool: "bool", int: "number", float: "number", str: "text"}
    return names.get(type(value), "other")


def compared(value: Any, sign: str, constant: Any) -> bool:
    """As Milvus compares a part of JSON: what is not there or of another kind is unequal, and nothing else."""
    if kind(value) != kind(constant):
        return sign == "!="
    return COMPARE[sign](value, constant)


def like(text: Any, pattern: str) -> bool:
    """Milvus compares bytes: an `ü` is two of them, and `_` is one."""
    parts = {"%": ".*", "_": "."}
    expression = "".join(parts.get(letter, re.escape(letter)) for letter in pattern)
    return isinstance(text, str) and re.fullmatch(expression.encode(), text.encode(), re.DOTALL) is not None


def part(meta: Any, keys: Sequence[str | int]) -> Any:
    for key in keys:
        try:
            meta = None if isinstance(meta, str) else meta[key]
        except (KeyError, IndexError, TypeError):
            return None
    return meta


def written(value: Any, single: bool = False) -> str:
    return quoted(value, single) if isinstance(value, str) else json.dumps(value)


texts = st.tuples(st.sampled_from(WORDS), st.booleans()).map(lambda drawn: (written(*drawn), drawn[0]))
ints = st.sampled_from(NUMBERS).map(lambda n: (written(n), n))
floats = st.sampled_from(FLOATS).map(lambda x: (written(x), x))
bools = st.tuples(st.booleans(), st.sampled_from((str.lower, str.upper, str.title))).map(
    lambda drawn: (drawn[1](str(drawn[0])), drawn[0])
)
small = st.sampled_from((1, 2, 3, -2)).map(lambda n: (written(n), n))
CONSTANTS = {"label": texts, "brand": texts, "id": texts, "stock": ints, "price": floats | small, "sold": bools}
EXACT = {**CONSTANTS, "price": floats}
"""For lists and ranges."""


@st.composite
def paths(draw: st.DrawFn) -> tuple[str, Callable[[Row], Any]]:
    keys: list[str | int] = [draw(JSON), *draw(INNER)]
    single = draw(st.booleans())
    text = "meta" + "".join(f"[{written(key, single)}]" for key in keys)
    return text, lambda row: part(row["meta"], keys)


@st.composite
def comparisons(draw: st.DrawFn) -> Drawn:
    column = draw(st.sampled_from(sorted(CONSTANTS)))
    constant, value = draw(CONSTANTS[column])
    sign, space = draw(st.sampled_from(sorted(COMPARE))), draw(SPACE)
    if sign in TURNED and draw(st.booleans()):
        return f"{constant}{space}{TURNED[sign]} {column}", lambda row: COMPARE[sign](row[column], value)
    return f"{column}{space}{sign}{space}{constant}", lambda row: COMPARE[sign](row[column], value)


@st.composite
def comparisons_of_columns(draw: st.DrawFn) -> Drawn:
    one, other = draw(st.sampled_from((("label", "brand"), ("brand", "id"), ("stock", "stock"), ("sold", "sold"))))
    sign = draw(st.sampled_from(sorted(COMPARE)))
    return f"{one} {sign} {other}", lambda row: COMPARE[sign](row[one], row[other])


@st.composite
def json_comparisons(draw: st.DrawFn) -> Drawn:
    text, read = draw(paths())
    constant, value = draw(texts | small | floats | bools)
    sign = draw(st.sampled_from(("==", "!=") if isinstance(value, bool) else sorted(COMPARE)))
    if sign in TURNED and draw(st.booleans()):
        return f"{constant} {TURNED[sign]} {text}", lambda row: compared(read(row), sign, value)
    return f"{text} {sign} {constant}", lambda row: compared(read(row), sign, value)


@st.composite
def lists(draw: st.DrawFn) -> Drawn:
    column = draw(st.sampled_from(sorted(EXACT)))
    values = draw(st.lists(EXACT[column], min_size=1, max_size=4))
    negated, comma = draw(st.booleans()), draw(st.sampled_from(("", ",", " , ")))
    text = f"{column} {'not in' if negated else 'in'} [{', '.join(text for text, _ in values)}{comma}]"
    among = {value for _, value in values}
    return text, lambda row: (row[column] in among) != negated


@st.composite
def json_lists(draw: st.DrawFn) -> Drawn:
    path, read = draw(paths())
    values = draw(st.lists(draw(st.sampled_from((texts, small, floats))), min_size=1, max_size=3))
    negated = draw(st.booleans())
    text = f"{path} {'not in' if negated else 'in'} [{', '.join(text for text, _ in values)}]"
    return text, lambda row: any(compared(read(row), "==", value) for _, value in values) != negated


@st.composite
def ranges(draw: st.DrawFn) -> Drawn:
    column = draw(st.sampled_from(("label", "stock", "price")))
    (low, least), (high, most) = draw(EXACT[column]), draw(EXACT[column])
    one, other = draw(st.sampled_from(("<", "<="))), draw(st.sampled_from(("<", "<=")))
    if one != other or draw(st.booleans()):
        text = f"{low} {one} {column} {other} {high}"
    else:
        text = f"{high} {TURNED[other]} {column} {TURNED[one]} {low}"
    return text, lambda row: COMPARE[one](least, row[column]) and COMPARE[other](row[column], most)


@st.composite
def patterns(draw: st.DrawFn) -> Drawn:
    letters = st.sampled_from(("%", "_", "r", "ob", "in", "n", "'", '"', "(", ".", "[", "*", "ü"))
    pattern = "".join(draw(st.lists(letters, max_size=5)))
    if pattern.endswith("_") or (pattern and not pattern.strip("%_")):
        pattern += "b"
    word = draw(st.sampled_from(("like", "LIKE")))
    if draw(st.booleans()):
        path, read = draw(paths())
        return f"{path} {word} {quoted(pattern, False)}", lambda row: like(read(row), pattern)
    column = draw(st.sampled_from(("label", "brand", "id")))
    return f"{column} {word} {quoted(pattern, True)}", lambda row: like(row[column], pattern)


def _divided(one: float, other: float) -> float:
    """Whole numbers as C divides them, towards 0."""
    if isinstance(one, int) and isinstance(other, int):
        return (abs(one) // abs(other)) * (1 if (one < 0) == (other < 0) else -1)
    return one / other


def _rest(one: int, other: int) -> int:
    return one - other * int(_divided(one, other))


@st.composite
def computed(draw: st.DrawFn) -> Drawn:
    signs: dict[str, Callable[[Any, Any], Any]] = {
        "+": operator.add, "-": operator.sub, "*": operator.mul, "/": _divided, "%": _rest,
    }  # fmt: skip
    sign, equal = draw(st.sampled_from(sorted(signs))), draw(st.sampled_from(("==", "!=")))
    column = "stock" if sign == "%" else draw(st.sampled_from(("stock", "price")))
    constant, value = draw(small if column == "stock" else st.sampled_from((0.5, 2.0)).map(lambda x: (str(x), x)))
    result = draw(st.sampled_from((0, 1, 2, 3, -1)))

    def holds(row: Row) -> bool:
        number = signs[sign](row[column], value)
        if column == "stock":
            number = (number + 2**63) % 2**64 - 2**63
        return COMPARE[equal](number, result)

    left = f"{column} {sign} {constant}"
    if sign in "+*" and draw(st.booleans()):
        left = f"{constant} {sign} {column}"
    return f"{left if draw(st.booleans()) else f'({left})'} {equal} {result}", holds


@st.composite
def arrays(draw: st.DrawFn) -> Drawn:
    path, read = draw(paths())
    values = draw(st.lists(draw(st.sampled_from((texts, small))), min_size=1, max_size=3))
    which = draw(st.sampled_from(("json_contains", "json_contains_any", "json_contains_all", "ARRAY_CONTAINS")))
    if which in ("json_contains", "ARRAY_CONTAINS"):
        values = values[:1]
    given = values[0][0] if len(which) in (13, 14) else f"[{', '.join(text for text, _ in values)}]"

    def holds(row: Row) -> bool:
        found = read(row)
        if not isinstance(found, list):
            return False
        inside = [any(compared(one, "==", value) for one in found) for _, value in values]
        return all(inside) if which.endswith("all") else any(inside)

    return f"{which}({path}, {given})", holds


@st.composite
def lengths(draw: st.DrawFn) -> Drawn:
    path, read = draw(paths())
    sign, length = draw(st.sampled_from(("==", "!="))), draw(st.integers(0, 3))

    def holds(row: Row) -> bool:
        found = read(row)
        return COMPARE[sign](len(found) if isinstance(found, list) else 0, length)

    return f"array_length({path}) {sign} {length}", holds


def joined(inner: st.SearchStrategy[Drawn]) -> st.SearchStrategy[Drawn]:
    @st.composite
    def two(draw: st.DrawFn) -> Drawn:
        (one, first), (other, second) = draw(inner), draw(inner)
        word, space = draw(st.sampled_from(("and", "&&", "or", "||"))), draw(SPACE)
        text = f"({one}){space}{word}{space}({other})"
        if word in ("and", "&&"):
            return text, lambda row: first(row) and second(row)
        return text, lambda row: first(row) or second(row)

    return two() | inner.map(lambda drawn: (f"( {drawn[0]} )", drawn[1]))


@st.composite
def chains(draw: st.DrawFn) -> Drawn:
    """Conditions without brackets: `and` binds tighter than `or`."""
    parts = draw(
        st.lists(st.lists(comparisons() | lists() | patterns(), min_size=1, max_size=3), min_size=1, max_size=3)
    )
    text = " or ".join(" and ".join(text for text, _ in group) for group in parts)
    return text, lambda row: any(all(holds(row) for _, holds in group) for group in parts)


SINGLE = (
    comparisons() | comparisons_of_columns() | json_comparisons() | lists() | json_lists() | ranges() | patterns()
    | computed() | arrays() | lengths()
)  # fmt: skip
filters: st.SearchStrategy[Drawn] = st.recursive(SINGLE, joined, max_leaves=5) | chains()
