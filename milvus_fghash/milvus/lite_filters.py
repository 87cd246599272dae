"""The filters that Milvus Lite 2 evaluates completely and correctly.

Milvus Lite parses a filter up to the first construct it does not support and silently ignores the rest, and it
misreads some constructs that it does support. This is its grammar (src/parser/Plan.g4 in milvus-io/milvus-lite)
without those; `tests/milvus/test_filters.py` compares the rows it finds with those that plain Python finds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from milvus_fghash.errors import ConfigError
from milvus_fghash.milvus.filter_tokens import Token, filter_error
from milvus_fghash.milvus.pymilvus_compat import DataType

Kind = Literal["text", "int", "float", "bool", "json", "array", "vector"]

KINDS: Final[Mapping[Any, Kind]] = {
    DataType.VARCHAR: "text",
    DataType.BOOL: "bool",
    DataType.JSON: "json",
    DataType.ARRAY: "array",
    DataType.FLOAT: "float",
    DataType.DOUBLE: "float",
    **dict.fromkeys((DataType.INT8, DataType.INT16, DataType.INT32, DataType.INT64), "int"),
}
"""Type of a column -> kind of its values. Columns of all other types are vectors, which a filter cannot use."""
KIND_NAMES: Final = {
    "text": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a Boolean",
    "json": "a JSON value",
    "array": "an array",
}

MAX_DIGITS: Final = 400
"""A number with more digits exceeds every double; Python parses integers of at most 4,300 digits."""
MAX_CHAINED_CONDITIONS: Final = 48
"""In a chain of `and` and `or`. Milvus Lite parses 50 nested conditions (100 nested Protobuf messages, two each), and
`all_of` and the iterator of pymilvus each add one around a filter."""
COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=")
CONTAINS: Final = re.compile(r"(json|array)_contains(_all|_any)?|(JSON|ARRAY)_CONTAINS(_ALL|_ANY)?")
LENGTH: Final = ("array_length", "ARRAY_LENGTH")
KEYWORDS: Final = ("and", "or", "in", "not in")
"""Milvus Lite accepts them in lower case only."""
SERVER_ONLY: Final = re.compile(
    r"not|exists|is|null|(text|phrase)_match|match_(all|any|least|most|exact)|random_sample|element_filter|st_\w+", re.I
)


class _Operand(NamedTuple):
    """An operand of a comparison, or the comparison itself."""

    form: Literal["condition", "column", "constant", "computed"]
    kind: Kind
    at: int
    value: float | str | bool = 0
    """The value of a constant."""
    depth: int = 1
    """Number of nested conditions."""


class LiteFilter:
    """A recursive descent parser: one method per level of the grammar, in order of increasing precedence."""

    def __init__(self, filter: str, tokens: Sequence[Token], fields: Sequence[Mapping[str, Any]]) -> None:
        self._filter, self._tokens, self._next = filter, tokens, 0
        self._kinds: dict[str, Kind] = {one["name"]: KINDS.get(one["type"], "vector") for one in fields}

    def check(self) -> None:
        """Raise ConfigError if Milvus Lite would misread the filter, or not read all of it."""
        condition = self._either()
        if self._token.kind != "end":
            raise self._error(self._why_not_read())
        self._must_be_condition(condition)

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _accept(self, *texts: str) -> Token | None:
        """Consume and return the next token if it is one of these."""
        token = self._token
        if token.kind not in ("sign", "word") or token.text not in texts:
            return None
        self._next += 1
        return token

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._error(f"expected `{text}`")

    def _error(self, why: str, at: int | None = None) -> ConfigError:
        return filter_error(self._filter, self._token.at if at is None else at, why)

    def _why_not_read(self) -> str:
        """Why the token after a complete condition is not read."""
        token, lower = self._token, self._token.text.lower()
        if lower in KEYWORDS and token.text != lower:
            return f"Milvus Lite accepts `{lower}` in lower case only"
        if token.text.startswith("in["):
            return "add a space after `in`"
        if token.text == "=":
            return "use `==` to compare"
        if (token.kind == "word" and SERVER_ONLY.fullmatch(token.text)) or token.text == "!":
            return f"Milvus Lite does not support `{token.text}`"
        return "expected `and` or `or`"

    def _must_be_condition(self, operand: _Operand) -> None:
        if operand.form != "condition":
            raise self._error("expected a comparison, for example with `==`", operand.at)

    def _either(self) -> _Operand:
        return self._joined(self._both, "or", "||")

    def _both(self) -> _Operand:
        return self._joined(self._comparison, "and", "&&")

    def _joined(self, part: Callable[[], _Operand], *signs: str) -> _Operand:
        left = part()
        while self._token.text in signs:
            sign = self._token
            self._must_be_condition(left)
            self._next += 1
            right = part()
            self._must_be_condition(right)
            left = left._replace(depth=1 + max(left.depth, right.depth))
            if left.depth > MAX_CHAINED_CONDITIONS:
                raise self._error(
                    f"Milvus Lite accepts at most {MAX_CHAINED_CONDITIONS} conditions in a chain; compare a column "
                    "with many values by `in [...]`, or put parts of the chain in parentheses",
                    sign.at,
                )
        return left

    def _comparison(self) -> _Operand:
        left = self._sum()
        if sign := self._accept("like", "LIKE"):
            return self._like(left, sign)
        if sign := self._accept("in", "not in"):
            return self._among(left, sign)
        if not (sign := self._accept(*COMPARISONS)):
            return left
        right = self._sum()
        if right.form == "column" and self._token.text in COMPARISONS:
            return self._range(left, sign, right)
        self._compare(left, sign, right)
        if self._token.text in COMPARISONS:
            raise self._error("a comparison cannot be compared; join comparisons with `and`")
        return _Operand("condition", "bool", left.at)

    def _compare(self, left: _Operand, sign: Token, right: _Operand) -> None:
        equality = sign.text in ("==", "!=")
        for side in (left, right):
            if side.form == "condition":
                raise self._error("a comparison cannot be compared; join comparisons with `and`", sign.at)
        if left.form == right.form == "constant":
            raise self._error("expected a column on one side", left.at)
        if left.form == "constant":
            if equality:
                raise self._error("Milvus Lite misreads a constant on the left; write the column first", left.at)
            left, right = right, left
        if "computed" in (left.form, right.form) and not (equality and right.form == "constant"):
            raise self._error("a calculation can be compared only by == or !=, and with a constant", sign.at)
        if right.form == "constant":
            self._must_fit(left, right)
        elif "json" in (left.kind, right.kind):
            raise self._error("a JSON value can be compared only with a constant", sign.at)
        elif left.kind != right.kind and {left.kind, right.kind} != {"int", "float"}:
            raise self._error(f"{KIND_NAMES[left.kind]} cannot be compared with {KIND_NAMES[right.kind]}", sign.at)

    def _must_fit(self, column: _Operand, constant: _Operand, exactly: bool = False) -> None:
        """``exactly``: an integer does not count as a number with a decimal point."""
        kinds = {constant.kind, "float"} if constant.kind == "int" and not exactly else {constant.kind}
        if column.kind == "json" or column.kind in kinds:
            return
        more = " with a decimal point" if exactly and column.kind == "float" else ""
        raise self._error(f"expected {KIND_NAMES[column.kind]}{more}", constant.at)

    def _range(self, low: _Operand, sign: Token, column: _Operand) -> _Operand:
        second = self._accept(*COMPARISONS)
        assert second
        high = self._sum()
        if second.text[0] != sign.text[0] or sign.text[0] not in "<>":
            raise self._error("a comparison cannot be compared; join comparisons with `and`", second.at)
        if sign.text[0] == ">" and second.text != sign.text:
            raise self._error(
                "Milvus Lite confuses > and >= here; write the smaller value first, with < and <=", sign.at
            )
        if column.kind not in ("text", "int", "float"):
            raise self._error(
                f"{KIND_NAMES[column.kind]} cannot be in a range; join two comparisons with `and`", column.at
            )
        for end in (low, high):
            if end.form != "constant":
                raise self._error("expected a constant", end.at)
            self._must_fit(column, end, exactly=True)
        return _Operand("condition", "bool", low.at)

    def _like(self, column: _Operand, sign: Token) -> _Operand:
        pattern = self._constant()
        if column.form != "column" or column.kind not in ("text", "json"):
            raise self._error("expected a string column before `like`", column.at)
        words = pattern.value
        if not isinstance(words, str):
            raise self._error("expected a string after `like`", pattern.at)
        if "\\" in words:
            raise self._error("Milvus Lite supports no backslash in a pattern", pattern.at)
        if words.endswith("_") or (words and not words.strip("%_")):
            raise self._error(
                "Milvus Lite misreads a pattern that ends in _ or has only % and _; add a letter", pattern.at
            )
        return _Operand("condition", "bool", column.at)

    def _among(self, column: _Operand, sign: Token) -> _Operand:
        if column.form != "column":
            raise self._error(f"expected a column before `{sign.text}`", column.at)
        values = self._list()
        for value in values:
            self._must_fit(column, value, exactly=True)
            if value.kind != values[0].kind:
                raise self._error("all values of a list must have the same type", value.at)
        return _Operand("condition", "bool", column.at, depth=1 + (sign.text != "in"))

    def _list(self) -> list[_Operand]:
        self._expect("[")
        values = [self._constant()]
        while self._accept(","):
            if self._token.text != "]":
                values.append(self._constant())
        self._expect("]")
        return values

    def _constant(self) -> _Operand:
        """A constant, which may be calculated from others."""
        operand = self._sum()
        if operand.form != "constant":
            raise self._error("expected a constant", operand.at)
        return operand

    def _sum(self) -> _Operand:
        left = self._product()
        while sign := self._accept("+", "-"):
            left = self._computed(left, sign, self._product())
        return left

    def _product(self) -> _Operand:
        left = self._signed()
        while sign := self._accept("*", "/", "%"):
            left = self._computed(left, sign, self._signed())
        return left

    def _signed(self) -> _Operand:
        first, minus = self._token.at, False
        signed = False
        while sign := self._accept("-", "+"):
            signed, minus = True, minus != (sign.text == "-")
        operand = self._atom()
        if not signed:
            return operand
        if operand.form != "constant" or operand.kind not in ("int", "float"):
            raise self._error("expected a number after the sign", operand.at)
        assert not isinstance(operand.value, str)
        return _Operand("constant", operand.kind, first, -operand.value if minus else operand.value)

    def _computed(self, left: _Operand, sign: Token, right: _Operand) -> _Operand:
        for side in (left, right):
            if side.kind not in ("int", "float"):
                raise self._error(f"{KIND_NAMES[side.kind]} cannot be used in a calculation", side.at)
        forms = {left.form, right.form}
        if forms == {"constant"}:
            return self._folded(left, sign, right)
        if forms != {"column", "constant"} or (left.form == "constant" and sign.text not in "+*"):
            raise self._error(
                "a calculation must combine one column and one constant, for example `price * 2`", sign.at
            )
        column, constant = (left, right) if left.form == "column" else (right, left)
        if sign.text == "%" and column.kind == "float":
            raise self._error("% requires integers", sign.at)
        if (column.kind, constant.kind) == ("int", "float"):
            raise self._error("expected an integer", constant.at)
        return _Operand("computed", column.kind, left.at)

    def _folded(self, left: _Operand, sign: Token, right: _Operand) -> _Operand:
        one, other = left.value, right.value
        assert not isinstance(one, str)
        assert not isinstance(other, str)
        if sign.text in "/%":
            raise self._error("Milvus Lite divides constants incorrectly; write the result", sign.at)
        value = one + other if sign.text == "+" else one - other if sign.text == "-" else one * other
        return self._number(value, left.at)

    def _number(self, value: float, at: int) -> _Operand:
        if (isinstance(value, int) and abs(value) >= 2**63) or not math.isfinite(value):
            raise self._error("the number does not fit into 64 bits", at)
        return _Operand("constant", "int" if isinstance(value, int) else "float", at, value)

    def _atom(self) -> _Operand:
        token = self._token
        if self._accept("("):
            inner = self._either()
            self._expect(")")
            return inner
        if token.kind == "word" and token.text in ("true", "True", "TRUE", "false", "False", "FALSE"):
            self._next += 1
            return _Operand("constant", "bool", token.at, token.text.lower() == "true")
        if token.kind == "word" and CONTAINS.fullmatch(token.text):
            return self._contains()
        if self._accept(*LENGTH):
            self._expect("(")
            self._array()
            self._expect(")")
            return _Operand("computed", "int", token.at)
        reading = {"text": self._text, "number": self._plain_number, "path": self._path, "word": self._column}
        if token.kind not in reading:
            at_end = token.kind == "end"
            raise self._error("expected a column or a value" if at_end else self._why_no_operand())
        operand = reading[token.kind](token)
        self._next += 1
        return operand

    def _why_no_operand(self) -> str:
        text = self._token.text
        if text == "!":
            return "Milvus Lite does not support `!`; negate the comparison, for example with != or `not in`"
        return "use `==` to compare" if text == "=" else "expected a column or a value"

    def _contains(self) -> _Operand:
        token = self._token
        self._next += 1
        self._expect("(")
        self._array()
        self._expect(",")
        if token.text.lower().endswith(("_all", "_any")) or self._token.text == "[":
            self._list()
        else:
            self._constant()
        self._expect(")")
        return _Operand("condition", "bool", token.at)

    def _array(self) -> None:
        """An array column, or a part of a JSON column that may hold an array."""
        operand = self._atom()
        if operand.form != "column" or operand.kind not in ("json", "array"):
            raise self._error('expected a part of a JSON column, for example meta["tags"]', operand.at)

    def _text(self, token: Token) -> _Operand:
        inside = token.text[1:-1]
        if "\\" in inside:
            if wrong := next((letter for letter in re.findall(r"\\(.)", inside, re.S) if letter not in "\\\"'"), None):
                raise self._error(f"Milvus Lite reads \\{wrong} as {wrong}; write the character itself", token.at)
            inside = re.sub(r"\\(.)", r"\1", inside)
        return _Operand("constant", "text", token.at, inside)

    def _plain_number(self, token: Token) -> _Operand:
        if re.match(r"0[0-9a-zA-Z]", token.text) and not re.fullmatch(r"0[eE].*", token.text):
            raise self._error("Milvus Lite reads only decimal numbers without a leading 0", token.at)
        is_integer = token.text.isdecimal() and len(token.text) < MAX_DIGITS
        return self._number(int(token.text) if is_integer else float(token.text), token.at)

    def _path(self, token: Token) -> _Operand:
        name = token.text.partition("[")[0]
        kind = self._kind(name, token)
        if kind not in ("json", "array"):
            raise self._error(f"{name} is not a JSON column", token.at)
        if "\\" in token.text or "][" in re.sub(r"(?<=[\"'0-9])\]\[(?=[\"'0-9])", "", token.text):
            raise self._error("Milvus Lite supports neither backslashes nor ][ in a key", token.at)
        if re.search(r"\[(\"\"|'')\]", token.text):
            raise self._error("Milvus Lite supports no empty key", token.at)
        return _Operand("column", "json", token.at)

    def _column(self, token: Token) -> _Operand:
        kind = self._kind(token.text, token)
        if kind == "vector":
            raise self._error(f"the column {token.text} holds vectors and cannot be compared", token.at)
        if kind == "json":
            raise self._error(f'name a part of {token.text}, for example {token.text}["key"]', token.at)
        return _Operand("column", kind, token.at)

    def _kind(self, name: str, token: Token) -> Kind:
        if kind := self._kinds.get(name):
            return kind
        lower = name.lower()
        if lower in KEYWORDS and lower != name:
            why = f"Milvus Lite accepts `{lower}` in lower case only"
        elif name in KEYWORDS:
            why = "expected a column or a value"
        elif lower == "not":
            why = f"Milvus Lite does not support `{name}`; negate the comparison, for example with != or `not in`"
        elif SERVER_ONLY.fullmatch(name):
            why = f"Milvus Lite does not support `{name}`"
        else:
            why = f"there is no column {name}"
        raise self._error(why, token.at)
