"""The one check of a filter, wherever one is taken, and what Milvus says of a filter that it rejects.

A server rejects what it cannot read to the end. Milvus Lite does not, so there all is read here first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from milvus_fghash.errors import ConfigError, StoreBusy, StoreError, one_line
from milvus_fghash.milvus.filter_tokens import check_tokens, shown, tokens_of
from milvus_fghash.milvus.lite_filters import KINDS, LiteFilter

REJECTED: Final = re.compile(r"expression|\bexpr\b|predicate|PhyFilter|PlanProto|query plan")
"""Words of Milvus about a filter."""
SOURCE: Final = re.compile(r"\s*(?:=>)?\s*\bat /\S+\.(?:cpp|cc|h|hpp|go):\d+")
"""A place in Milvus' own code."""
LONGEST: Final = 200
"""Letters of what Milvus says."""


def all_of(filters: Sequence[str]) -> str:
    """The filter that holds where all of some do: none can leave the brackets that are put around it.

    For programs that add a condition of their own to a filter that somebody else wrote. A blank one holds everywhere.

    >>> all_of(['label == "x" or label == "y"', "", "price < 7"])
    '(label == "x" or label == "y") and (price < 7)'
    >>> all_of(["price > 1) or (price > 0", "price < 7"])
    Traceback (most recent call last):
    milvus_fghash.errors.ConfigError: the filter 'price > 1) or (price > 0' cannot be read from ') or (price ...

    Raises:
        ConfigError: as `filter_words.check_tokens`.
    """
    for one in filters:
        check_tokens(one, tokens_of(one))
    return " and ".join(f"({one})" for one in filters if one.strip())


def check_filter(filter: str, fields: Sequence[Mapping[str, Any]], lite: bool) -> None:
    """Reject a filter that Milvus would read in part, or otherwise than it is written; a blank one is none.

    Args:
        fields: of the collection, as Milvus describes them.
        lite: whether it is Milvus Lite that reads it.

    Raises:
        ConfigError: says from where on it cannot be read, why, and which columns there are.
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
def told_of_filter(filter: str, fields: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Calls with a filter, in a `milvus_call`.

    Raises:
        ConfigError: where Milvus rejects the filter; with its reason and the columns there are, each once.
    """
    try:
        yield
    except StoreBusy:
        raise
    except StoreError as error:
        said = one_line(getattr(error.__cause__, "message", ""))
        if not filter or not REJECTED.search(said):
            raise
        said = SOURCE.sub("", said.rpartition("error: ")[2])
        said = re.sub(r"(invalid expression|Invalid expr): .*", r"\1", said)[:LONGEST]
        raise ConfigError(f"Milvus rejects the filter {shown(filter)}: {said}. {_columns_of(fields)}") from error


def _columns_of(fields: Sequence[Mapping[str, Any]]) -> str:
    return f"The columns are {', '.join(one['name'] for one in fields if one['type'] in KINDS)}"
