"""A filter as the words, texts, numbers and signs that Milvus reads, and what goes wrong with it in one sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from milvus_fghash.errors import ConfigError

TEXT: Final = r'"(?:\\.|[^"\\\r\n])*"|\'(?:\\.|[^\'\\\r\n])*\''
"""A text between quotes, as a regular expression."""
_TOKEN: Final = re.compile(
    rf"""(?:(?P<text>{TEXT})
    |(?P<path>[A-Za-z_]\w*(?:\[(?:{TEXT}|[0-9]+)\])+)
    |(?P<number>0[xXbB]\w+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    |(?P<word>not\ in\b|[A-Za-z_]\w*)
    |(?P<sign>\*\*|<=|>=|==|!=|&&|\|\||<<|>>|.))[ \t\r\n]*""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_CLOSING: Final = {")": "(", "]": "[", "}": "{"}
DEEPEST: Final = 100
"""Brackets inside each other; Milvus reads them by calls inside each other."""
SHOWN: Final = 60
"""Letters of a filter that a message shows."""


class Token(NamedTuple):
    """One of a filter.

    Attributes:
        kind: "text", "path" (a part of JSON such as ``meta["key"]``), "number", "word", "sign" or "end".
        text: as it is written.
        at: where it begins.
    """

    kind: str
    text: str
    at: int


def tokens_of(filter: str) -> list[Token]:
    """All of them, and one of the kind "end"."""
    found, at = [], len(filter) - len(filter.lstrip(" \t\r\n"))
    while match := _TOKEN.match(filter, at):
        assert match.lastgroup
        found.append(Token(match.lastgroup, match[match.lastgroup], at))
        at = match.end()
    return [*found, Token("end", "", at)]


def check_tokens(filter: str, tokens: Sequence[Token]) -> None:
    """Reject letters that are no UTF-8, brackets that do not match, texts that do not end, and divisors that kill.

    A bracket too many would end one that somebody puts around the filter, as the iterator of pymilvus does: that would
    go on for ever.

    Raises:
        ConfigError: says where.
    """
    if half := re.search("[\ud800-\udfff]", filter):
        raise stopped(filter, half.start(), "this is no letter of UTF-8, but a part of one")
    opened: list[Token] = []
    for number, token in enumerate(tokens):
        if token.text in _CLOSING.values():
            opened.append(token)
            if len(opened) > DEEPEST:
                raise stopped(filter, token.at, f"more than {DEEPEST} brackets stand inside each other")
        elif token.text in _CLOSING:
            if not opened or opened.pop().text != _CLOSING[token.text]:
                raise stopped(filter, token.at, f"no bracket is open that {token.text} closes")
        elif token.text in ('"', "'"):
            raise stopped(filter, token.at, "this text is not closed; a quote inside a text needs a \\ before it")
        elif token.text in ("/", "%"):
            _check_divisor(filter, token, tokens[number + 1 :])
    if opened:
        raise stopped(filter, opened[-1].at, "this bracket is not closed")


def _check_divisor(filter: str, sign: Token, rest: Sequence[Token]) -> None:
    """Reject 0, -1, and what has to be computed first, which may be one of them.

    The process of Milvus ends with a whole number that is divided by 0, a server's too, and with the smallest one of 64
    bits divided by -1: the processor has no result for them.
    """
    at = next(place for place, one in enumerate(rest) if one.text not in ("(", "+", "-"))
    if rest[at].text == "~":
        raise stopped(filter, sign.at, "the divisor must be one number; write its value")
    if rest[at].kind != "number":
        return
    before, text = [one.text for one in rest[:at]], rest[at].text
    behind = [one.text for one in rest[at + 1 : at + 2 + before.count("(")]]
    if behind[:-1] != [")"] * before.count("(") or behind[-1] == "**":
        raise stopped(filter, sign.at, "the divisor must be one number; write its value")
    if re.fullmatch(r"[0.]+([eE].*)?|0[xXbB]0+", text):
        raise stopped(filter, sign.at, "nothing can be divided by 0")
    if before.count("-") % 2 and re.fullmatch(r"0*1|0[xXbB]0*1", text):
        raise stopped(filter, sign.at, "Milvus cannot divide by -1; multiply by it, or turn the sign of the result")


def stopped(filter: str, at: int, why: str) -> ConfigError:
    """The error about a filter that makes no sense from somewhere on."""
    rest = filter[at:]
    where = f"from {shown(rest)} on" if rest.strip() else "at its end"
    return ConfigError(f"the filter {shown(filter)} cannot be read {where}: {why}")


def shown(filter: str) -> str:
    """As it stands in a message, without control characters and cut off where it is long."""
    return repr(filter if len(filter) <= SHOWN else f"{filter[:SHOWN]}...")
