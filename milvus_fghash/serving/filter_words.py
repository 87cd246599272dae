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


def check_brackets(filter: str, tokens: Sequence[Token]) -> None:
    """Refuse brackets that do not match, texts that do not end, and what is divided by 0.

    A bracket too many would end one that somebody puts around the filter, as the iterator of pymilvus does: that would
    go on for ever. The process of Milvus ends with a whole number that is divided by 0, a server's too.

    Raises:
        ConfigError: says where.
    """
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
            divisor = next(one for one in tokens[number + 1 :] if one.text not in ("(", "+", "-"))
            if divisor.kind == "number" and re.fullmatch(r"[0.]+([eE].*)?|0[xXbB]0+", divisor.text):
                raise stopped(filter, token.at, "nothing can be divided by 0")
    if opened:
        raise stopped(filter, opened[-1].at, "this bracket is not closed")


def stopped(filter: str, at: int, why: str) -> ConfigError:
    """The error about a filter that makes no sense from somewhere on."""
    rest = filter[at:]
    where = f"from {shown(rest)} on" if rest.strip() else "at its end"
    return ConfigError(f"the filter {shown(filter)} cannot be read {where}: {why}")


def shown(filter: str) -> str:
    """As it stands in a message, without control characters and cut off where it is long."""
    return repr(filter if len(filter) <= SHOWN else f"{filter[:SHOWN]}...")
