"""The check of a filter before it is sent to Milvus, and the error when Milvus rejects it.

A server rejects a filter that it cannot parse completely. Milvus Lite does not, so its filters are parsed here first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from milvus_fghash.errors import ConfigError, StoreBusy, StoreError, one_line
from milvus_fghash.milvus.filter_tokens import check_tokens, shown, tokens_of
from milvus_fghash.milvus.lite_filters import KINDS, LiteFilter

ABOUT_A_FILTER: Final = re.compile(r"expression|\bexpr\b|predicate|PhyFilter|PlanProto|query plan")
"""Found in the messages of Milvus about a filter."""
SOURCE_LOCATION: Final = re.compile(r"\s*(?:=>)?\s*\bat /\S+\.(?:cpp|cc|h|hpp|go):\d+")
"""A file and line of the source code of Milvus."""
MAX_REASON_CHARACTERS: Final = 200
"""Characters of the message of Milvus that are shown."""


def all_of(filters: Sequence[str]) -> str:
    """Combine filters into one that holds where all of them hold.

    For programs that add a condition of their own to a filter from somebody else, for example for access control: no
    filter can break out of the parentheses around it.

    Args:
        filters: filter expressions of Milvus. Blank ones hold everywhere and are left out.

    Returns:
        The combined filter; "" if there is nothing to combine.

    Raises:
        ConfigError: if a filter has unmatched brackets, an unterminated string or invalid characters.

    Examples:
        >>> all_of(['label == "x" or label == "y"', "", "price < 7"])
        '(label == "x" or label == "y") and (price < 7)'
        >>> all_of(["price > 1) or (price > 0", "price < 7"])
        Traceback (most recent call last):
        milvus_fghash.errors.ConfigError: invalid filter 'price > 1) or (price > 0' at ') or (price > 0': no open ...
    """
    for one in filters:
        check_tokens(one, tokens_of(one))
    return " and ".join(f"({one})" for one in filters if one.strip())


def check_filter(filter: str, fields: Sequence[Mapping[str, Any]], lite: bool) -> None:
    """Reject a filter that Milvus would not evaluate completely and correctly. A blank filter is valid.

    Args:
        filter: the filter expression.
        fields: fields of the collection, as described by Milvus.
        lite: whether Milvus Lite evaluates the filter.

    Raises:
        ConfigError: names the position, the reason, and the columns of the collection.
    """
    if not filter.strip():
        return
    try:
        tokens = tokens_of(filter)
        check_tokens(filter, tokens)
        if lite:
            LiteFilter(filter, tokens, fields).check()
    except ConfigError as error:
        raise ConfigError(f"{error}. {_columns_of(fields)}") from None


@contextmanager
def filter_errors(filter: str, fields: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """For a block with a `milvus_call` that sends a filter.

    Raises:
        ConfigError: if Milvus rejects the filter; gives its reason and the columns of the collection.
    """
    try:
        yield
    except StoreBusy:
        raise
    except StoreError as error:
        message = one_line(getattr(error.__cause__, "message", ""))
        if not filter or not ABOUT_A_FILTER.search(message):
            raise
        message = SOURCE_LOCATION.sub("", message.rpartition("error: ")[2])
        message = re.sub(r"(invalid expression|Invalid expr): .*", r"\1", message)[:MAX_REASON_CHARACTERS]
        raise ConfigError(f"Milvus rejects the filter {shown(filter)}: {message}. {_columns_of(fields)}") from error


def _columns_of(fields: Sequence[Mapping[str, Any]]) -> str:
    return f"The columns are {', '.join(one['name'] for one in fields if one['type'] in KINDS)}"
