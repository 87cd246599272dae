"""What Milvus Lite 2 reads of a filter, whole and right.

It reads a filter up to the first thing it does not know and drops the rest without a word, and some things that it does
know it reads as something else. So this is its grammar (src/parser/Plan.g4 in milvus-io/milvus-lite) less what comes
out wrong; `tests/milvus/test_filters.py` compares the rows with what plain Python finds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from milvus_fghash.errors import ConfigError
from milvus_fghash.milvus.filter_tokens import Token, stopped
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
"""Of columns; those of all other types are vectors, which no filter names."""
WORDS: Final = {
    "text": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "json": "a value of JSON",
    "array": "an array",
}

MOST_DIGITS: Final = 400
"""A number of more digits is beyond all doubles; Python reads whole ones of 4,300 at the most."""
MOST_JOINED: Final = 48
"""Conditions in a chain of `and` and `or`. Milvus Lite reads 50 inside each other (100 messages of Protobuf, two each),
and `all_of` and the iterator of pymilvus each put one more around a filter."""
COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=")
CONTAINS: Final = re.compile(r"(json|array)_contains(_all|_any)?|(JSON|ARRAY)_CONTAINS(_ALL|_ANY)?")
LENGTH: Final = ("array_length", "ARRAY_LENGTH")
KEYWORDS: Final = ("and", "or", "in", "not in")
"""Milvus Lite knows them in lower case only."""
SERVERS_ONLY: Final = re.compile(
    r"not|exists|is|null|(text|phrase)_match|match_(all|any|least|most|exact)|random_sample|element_filter|st_\w+", re.I
)


class _Operand(NamedTuple):
    """What a comparison compares, or the comparison itself."""

    form: Literal["condition", "column", "constant", "computed"]
    kind: Kind
    at: int
    value: float | str | bool = 0
    """Of a constant."""
    depth: int = 1
    """Conditions inside each other."""


class LiteFilter:
    """A filter as Milvus Lite reads it: one method for each level of its grammar, which binds the tighter the lower."""

    def __init__(self, filter: str, tokens: Sequence[Token], fields: Sequence[Mapping[str, Any]]) -> None:
        self._filter, self._tokens, self._next = filter, tokens, 0
        self._kinds: dict[str, Kind] = {one["name"]: KINDS.get(one["type"], "vector") for one in fields}

    def check(self) -> None:
        whole = self._either()
        if self._token.kind != "end":
            raise self._stop(self._why_here())
        self._must_be_condition(whole)

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _taken(self, *texts: str) -> Token | None:
        """The next token, if it is one of these."""
        token = self._token
        if token.kind not in ("sign", "word") or token.text not in texts:
            return None
        self._next += 1
        return token

    def _expected(self, text: str) -> None:
        if not self._taken(text):
            raise self._stop(f"`{text}` is expected")

    def _stop(self, why: str, at: int | None = None) -> ConfigError:
        return stopped(self._filter, self._token.at if at is None else at, why)

    def _why_here(self) -> str:
        """Why what stands behind a whole condition is not read."""
        token, lower = self._token, self._token.text.lower()
        if lower in KEYWORDS and token.text != lower:
            return f"Milvus Lite knows `{lower}` in lower case only"
        if token.text.startswith("in["):
            return "a space is needed behind `in`"
        if token.text == "=":
            return "`==` compares"
        if (token.kind == "word" and SERVERS_ONLY.fullmatch(token.text)) or token.text == "!":
            return f"Milvus Lite does not know `{token.text}`"
        return "`and` or `or` is expected"

    def _must_be_condition(self, operand: _Operand) -> None:
        if operand.form != "condition":
            raise self._stop("it must be compared with something, such as by `==`", operand.at)

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
            if left.depth > MOST_JOINED:
                raise self._stop(
                    f"Milvus Lite takes {MOST_JOINED} conditions in a chain; compare a column with many values by "
                    "`in [...]`, or put brackets around parts of the chain",
                    sign.at,
                )
        return left

    def _comparison(self) -> _Operand:
        left = self._sum()
        if sign := self._taken("like", "LIKE"):
            return self._like(left, sign)
        if sign := self._taken("in", "not in"):
            return self._among(left, sign)
        if not (sign := self._taken(*COMPARISONS)):
            return left
        right = self._sum()
        if right.form == "column" and self._token.text in COMPARISONS:
            return self._range(left, sign, right)
        self._compare(left, sign, right)
        if self._token.text in COMPARISONS:
            raise self._stop("a comparison cannot be compared; join them by `and`")
        return _Operand("condition", "bool", left.at)

    def _compare(self, left: _Operand, sign: Token, right: _Operand) -> None:
        equality = sign.text in ("==", "!=")
        for side in (left, right):
            if side.form == "condition":
                raise self._stop("a comparison cannot be compared; join them by `and`", sign.at)
        if left.form == right.form == "constant":
            raise self._stop("a column is expected on one side", left.at)
        if left.form == "constant":
            if equality:
                raise self._stop("Milvus Lite reads it the other way round; write the column first", left.at)
            left, right = right, left
        if "computed" in (left.form, right.form) and not (equality and right.form == "constant"):
            raise self._stop("what is computed can only be compared by == or != with a constant", sign.at)
        if right.form == "constant":
            self._must_fit(left, right)
        elif "json" in (left.kind, right.kind):
            raise self._stop("a value of JSON can be compared with constants only", sign.at)
        elif left.kind != right.kind and {left.kind, right.kind} != {"int", "float"}:
            raise self._stop(f"{WORDS[left.kind]} cannot be compared with {WORDS[right.kind]}", sign.at)

    def _must_fit(self, column: _Operand, constant: _Operand, exactly: bool = False) -> None:
        """``exactly``: a whole number is none with a decimal point."""
        kinds = {constant.kind, "float"} if constant.kind == "int" and not exactly else {constant.kind}
        if column.kind == "json" or column.kind in kinds:
            return
        more = " with a decimal point" if exactly and column.kind == "float" else ""
        raise self._stop(f"{WORDS[column.kind]}{more} is expected", constant.at)

    def _range(self, low: _Operand, sign: Token, column: _Operand) -> _Operand:
        second = self._taken(*COMPARISONS)
        assert second
        high = self._sum()
        if second.text[0] != sign.text[0] or sign.text[0] not in "<>":
            raise self._stop("a comparison cannot be compared; join them by `and`", second.at)
        if sign.text[0] == ">" and second.text != sign.text:
            raise self._stop(
                "Milvus Lite mixes up > and >= here; write the smaller value first, with < and <=", sign.at
            )
        if column.kind not in ("text", "int", "float"):
            raise self._stop(f"{WORDS[column.kind]} cannot stand between two values; join two by `and`", column.at)
        for end in (low, high):
            if end.form != "constant":
                raise self._stop("a constant is expected", end.at)
            self._must_fit(column, end, exactly=True)
        return _Operand("condition", "bool", low.at)

    def _like(self, column: _Operand, sign: Token) -> _Operand:
        pattern = self._constant()
        if column.form != "column" or column.kind not in ("text", "json"):
            raise self._stop("a column of texts is expected before `like`", column.at)
        words = pattern.value
        if not isinstance(words, str):
            raise self._stop("a text is expected behind `like`", pattern.at)
        if "\\" in words:
            raise self._stop("Milvus Lite takes no backslash in a pattern", pattern.at)
        if words.endswith("_") or (words and not words.strip("%_")):
            raise self._stop(
                "Milvus Lite misreads a pattern that ends in _ or has only % and _; give a letter", pattern.at
            )
        return _Operand("condition", "bool", column.at)

    def _among(self, column: _Operand, sign: Token) -> _Operand:
        if column.form != "column":
            raise self._stop(f"a column is expected before `{sign.text}`", column.at)
        values = self._list()
        for value in values:
            self._must_fit(column, value, exactly=True)
            if value.kind != values[0].kind:
                raise self._stop("all values of a list must be of one type", value.at)
        return _Operand("condition", "bool", column.at, depth=1 + (sign.text != "in"))

    def _list(self) -> list[_Operand]:
        self._expected("[")
        values = [self._constant()]
        while self._taken(","):
            if self._token.text != "]":
                values.append(self._constant())
        self._expected("]")
        return values

    def _constant(self) -> _Operand:
        """One, with the constants it is computed from."""
        operand = self._sum()
        if operand.form != "constant":
            raise self._stop("a constant is expected", operand.at)
        return operand

    def _sum(self) -> _Operand:
        left = self._product()
        while sign := self._taken("+", "-"):
            left = self._computed(left, sign, self._product())
        return left

    def _product(self) -> _Operand:
        left = self._signed()
        while sign := self._taken("*", "/", "%"):
            left = self._computed(left, sign, self._signed())
        return left

    def _signed(self) -> _Operand:
        first, minus = self._token.at, False
        signed = False
        while sign := self._taken("-", "+"):
            signed, minus = True, minus != (sign.text == "-")
        operand = self._atom()
        if not signed:
            return operand
        if operand.form != "constant" or operand.kind not in ("int", "float"):
            raise self._stop("a number is expected behind the sign", operand.at)
        assert not isinstance(operand.value, str)
        return _Operand("constant", operand.kind, first, -operand.value if minus else operand.value)

    def _computed(self, left: _Operand, sign: Token, right: _Operand) -> _Operand:
        for side in (left, right):
            if side.kind not in ("int", "float"):
                raise self._stop(f"{WORDS[side.kind]} cannot be computed with", side.at)
        forms = {left.form, right.form}
        if forms == {"constant"}:
            return self._folded(left, sign, right)
        if forms != {"column", "constant"} or (left.form == "constant" and sign.text not in "+*"):
            raise self._stop("one column and one constant can be computed, such as `price * 2`", sign.at)
        column, constant = (left, right) if left.form == "column" else (right, left)
        if sign.text == "%" and column.kind == "float":
            raise self._stop("% is for whole numbers only", sign.at)
        if (column.kind, constant.kind) == ("int", "float"):
            raise self._stop("a whole number is expected", constant.at)
        return _Operand("computed", column.kind, left.at)

    def _folded(self, left: _Operand, sign: Token, right: _Operand) -> _Operand:
        one, other = left.value, right.value
        assert not isinstance(one, str)
        assert not isinstance(other, str)
        if sign.text in "/%":
            raise self._stop("Milvus Lite divides constants wrongly; write the result", sign.at)
        value = one + other if sign.text == "+" else one - other if sign.text == "-" else one * other
        return self._number(value, left.at)

    def _number(self, value: float, at: int) -> _Operand:
        if (isinstance(value, int) and abs(value) >= 2**63) or not math.isfinite(value):
            raise self._stop("the number is too large for 64 bits", at)
        return _Operand("constant", "int" if isinstance(value, int) else "float", at, value)

    def _atom(self) -> _Operand:
        token = self._token
        if self._taken("("):
            inner = self._either()
            self._expected(")")
            return inner
        if token.kind == "word" and token.text in ("true", "True", "TRUE", "false", "False", "FALSE"):
            self._next += 1
            return _Operand("constant", "bool", token.at, token.text.lower() == "true")
        if token.kind == "word" and CONTAINS.fullmatch(token.text):
            return self._contains()
        if self._taken(*LENGTH):
            self._expected("(")
            self._array()
            self._expected(")")
            return _Operand("computed", "int", token.at)
        reading = {"text": self._text, "number": self._plain_number, "path": self._path, "word": self._column}
        if token.kind not in reading:
            at_end = token.kind == "end"
            raise self._stop("a column or a value is expected" if at_end else self._why_no_operand())
        operand = reading[token.kind](token)
        self._next += 1
        return operand

    def _why_no_operand(self) -> str:
        text = self._token.text
        if text == "!":
            return "Milvus Lite does not know `!`; turn the comparison round, such as by != or `not in`"
        return "`==` compares" if text == "=" else "a column or a value is expected"

    def _contains(self) -> _Operand:
        token = self._token
        self._next += 1
        self._expected("(")
        self._array()
        self._expected(",")
        if token.text.lower().endswith(("_all", "_any")) or self._token.text == "[":
            self._list()
        else:
            self._constant()
        self._expected(")")
        return _Operand("condition", "bool", token.at)

    def _array(self) -> None:
        """A column, or a part of JSON, that may hold an array."""
        operand = self._atom()
        if operand.form != "column" or operand.kind not in ("json", "array"):
            raise self._stop('a part of JSON is expected, such as meta["tags"]', operand.at)

    def _text(self, token: Token) -> _Operand:
        inside = token.text[1:-1]
        if "\\" in inside:
            if wrong := next((letter for letter in re.findall(r"\\(.)", inside, re.S) if letter not in "\\\"'"), None):
                raise self._stop(f"Milvus Lite reads \\{wrong} as {wrong}; write the letter itself", token.at)
            inside = re.sub(r"\\(.)", r"\1", inside)
        return _Operand("constant", "text", token.at, inside)

    def _plain_number(self, token: Token) -> _Operand:
        if re.match(r"0[0-9a-zA-Z]", token.text) and not re.fullmatch(r"0[eE].*", token.text):
            raise self._stop("Milvus Lite reads decimal numbers only, without a 0 in front", token.at)
        whole = token.text.isdecimal() and len(token.text) < MOST_DIGITS
        return self._number(int(token.text) if whole else float(token.text), token.at)

    def _path(self, token: Token) -> _Operand:
        name = token.text.partition("[")[0]
        kind = self._kind(name, token)
        if kind not in ("json", "array"):
            raise self._stop(f"the column {name} holds no JSON", token.at)
        if "\\" in token.text or "][" in re.sub(r"(?<=[\"'0-9])\]\[(?=[\"'0-9])", "", token.text):
            raise self._stop("Milvus Lite takes neither backslashes nor ][ in a key", token.at)
        if re.search(r"\[(\"\"|'')\]", token.text):
            raise self._stop("Milvus Lite takes no empty key", token.at)
        return _Operand("column", "json", token.at)

    def _column(self, token: Token) -> _Operand:
        kind = self._kind(token.text, token)
        if kind == "vector":
            raise self._stop(f"the column {token.text} holds vectors, which no filter compares", token.at)
        if kind == "json":
            raise self._stop(f'a part of {token.text} must be named, such as {token.text}["key"]', token.at)
        return _Operand("column", kind, token.at)

    def _kind(self, name: str, token: Token) -> Kind:
        if kind := self._kinds.get(name):
            return kind
        lower = name.lower()
        if lower in KEYWORDS and lower != name:
            why = f"Milvus Lite knows `{lower}` in lower case only"
        elif name in KEYWORDS:
            why = "a column or a value is expected"
        elif lower == "not":
            why = f"Milvus Lite does not know `{name}`; turn the comparison round, such as by != or `not in`"
        elif SERVERS_ONLY.fullmatch(name):
            why = f"Milvus Lite does not know `{name}`"
        else:
            why = f"there is no column {name}"
        raise self._stop(why, token.at)
