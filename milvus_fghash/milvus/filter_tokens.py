"""Tokens of a filter expression, checks of them that hold for every Milvus, and the error about an invalid filter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from milvus_fghash.errors import ConfigError

STRING_LITERAL: Final = r'"(?:\\.|[^"\\\r\n])*"|\'(?:\\.|[^\'\\\r\n])*\''
"""A string in quotes, as a regular expression."""
_TOKEN: Final = re.compile(
    rf"""(?:(?P<text>{STRING_LITERAL})
    |(?P<path>[A-Za-z_]\w*(?:\[(?:{STRING_LITERAL}|[0-9]+)\])+)
    |(?P<number>0[xXbB]\w+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    |(?P<word>not\ in\b|[A-Za-z_]\w*)
    |(?P<sign>\*\*|<=|>=|==|!=|&&|\|\||<<|>>|.))[ \t\r\n]*""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_CLOSING: Final = {")": "(", "]": "[", "}": "{"}
MAX_NESTED_BRACKETS: Final = 100
"""Milvus parses nested brackets by nested calls."""
MAX_SHOWN_CHARACTERS: Final = 60
"""Characters of a filter that are shown in a message."""


class Token(NamedTuple):
    """A token of a filter.

    Attributes:
        kind: "text", "path" (a part of JSON such as ``meta["key"]``), "number", "word", "sign" or "end".
        text: as written in the filter.
        at: position of its first character.
    """

    kind: str
    text: str
    at: int


def tokens_of(filter: str) -> list[Token]:
    """The tokens of a filter, followed by one of the kind "end"."""
    found, at = [], len(filter) - len(filter.lstrip(" \t\r\n"))
    while match := _TOKEN.match(filter, at):
        assert match.lastgroup
        found.append(Token(match.lastgroup, match[match.lastgroup], at))
        at = match.end()
    return [*found, Token("end", "", at)]


def check_tokens(filter: str, tokens: Sequence[Token]) -> None:
    """Reject invalid Unicode, unmatched brackets, unterminated strings, and divisors that crash Milvus.

    An extra closing bracket would close one that a caller puts around the filter. The iterator of pymilvus does so, and
    would never end.

    Raises:
        ConfigError: names the position.
    """
    if half := re.search("[\ud800-\udfff]", filter):
        raise filter_error(filter, half.start(), "this is not a valid Unicode character")
    opened: list[Token] = []
    for number, token in enumerate(tokens):
        if token.text in _CLOSING.values():
            opened.append(token)
            if len(opened) > MAX_NESTED_BRACKETS:
                raise filter_error(filter, token.at, f"more than {MAX_NESTED_BRACKETS} nested brackets")
        elif token.text in _CLOSING:
            if not opened or opened.pop().text != _CLOSING[token.text]:
                raise filter_error(filter, token.at, f"no open bracket matches {token.text}")
        elif token.text in ('"', "'"):
            raise filter_error(filter, token.at, "unterminated string; put a \\ before a quote inside a string")
        elif token.text in ("/", "%"):
            _check_divisor(filter, token, tokens[number + 1 :])
    if opened:
        raise filter_error(filter, opened[-1].at, "this bracket is never closed")


def _check_divisor(filter: str, sign: Token, rest: Sequence[Token]) -> None:
    """Reject 0, -1, and calculated divisors, which may be one of them.

    Dividing an integer by 0 crashes the process of Milvus, servers included, and so does dividing the smallest 64-bit
    integer by -1: the processor has no result for these.
    """
    at = next(place for place, one in enumerate(rest) if one.text not in ("(", "+", "-"))
    if rest[at].text == "~":
        raise filter_error(filter, sign.at, "the divisor must be a single number; write its value")
    if rest[at].kind != "number":
        return
    before, text = [one.text for one in rest[:at]], rest[at].text
    behind = [one.text for one in rest[at + 1 : at + 2 + before.count("(")]]
    if behind[:-1] != [")"] * before.count("(") or behind[-1] == "**":
        raise filter_error(filter, sign.at, "the divisor must be a single number; write its value")
    if re.fullmatch(r"[0.]+([eE].*)?|0[xXbB]0+", text):
        raise filter_error(filter, sign.at, "division by 0")
    if before.count("-") % 2 and re.fullmatch(r"0*1|0[xXbB]0*1", text):
        raise filter_error(filter, sign.at, "Milvus cannot divide by -1; multiply by -1 instead")


def filter_error(filter: str, at: int, why: str) -> ConfigError:
    """The error about a filter that is invalid from a position on."""
    rest = filter[at:]
    where = f"at {shown(rest)}" if rest.strip() else "at its end"
    return ConfigError(f"invalid filter {shown(filter)} {where}: {why}")


def shown(filter: str) -> str:
    """The filter as shown in a message: control characters escaped, and truncated if it is long."""
    return repr(filter if len(filter) <= MAX_SHOWN_CHARACTERS else f"{filter[:MAX_SHOWN_CHARACTERS]}...")
