"""What a search for duplicates says: one document, to be read by people, by programs, and by the next search."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from milvus_fghash.config import Frozen, read_model
from milvus_fghash.duplicates import Earlier, Kind
from milvus_fghash.errors import ConfigError, DataError
from milvus_fghash.lfs_pointer import refuse_pointer
from milvus_fghash.outside_text import csv_cell
from milvus_fghash.text_file import parse_json
from milvus_fghash.whole_file import write_whole

Count = Annotated[int, Field(ge=0)]
Keep = Literal["first", "last"]
"""Which row of a group stays: the first or the last one by path, and by id where paths are equal."""


class Member(Frozen):
    """A row of a group."""

    id: str
    path: str
    label: str
    content_sha: str
    distance: Count
    """Number of bits in which its code differs from that of the group's first row."""
    own_id: str = ""
    """The id that the list of photos gave it, or ""."""


class Group(Frozen):
    """Rows that are duplicates of each other, by path and then by id."""

    kind: Kind
    distance: Count
    """Largest distance of its members. Joins go on from row to row, so it may pass the `max_distance` of the search."""
    members: Annotated[tuple[Member, ...], Field(min_length=2)]


class Tally(Frozen):
    """How much was found of one kind."""

    groups: Count
    rows: Count
    """Rows that are in a group."""
    spare: Count
    """Rows that could go if one of each group stayed."""


class Duplicates(Frozen):
    """The whole document."""

    what: Literal["duplicates"] = "duplicates"
    format: Literal[1] = 1
    made_by: str
    made_at: str
    """ISO 8601, UTC."""
    collection: str
    method: str
    fingerprint: str
    """Of the model that made the codes."""
    bits: Annotated[int, Field(gt=0)]
    max_distance: Count
    """In bits; near rows differ in at most so many."""
    n_rows: Count
    n_searched: Count
    """Codes that were searched for: one of each kind there is, or what an earlier result left open."""
    n_compared_here: Count
    """How many of them had so many rows near that they were compared here, with all codes, and not in Milvus."""
    exact: Tally
    near: Tally
    note: str = ""
    """What the reader should know, or ""."""
    groups: tuple[Group, ...]
    """Exact ones first, then by their first member."""
    rows: dict[str, str]
    """id -> mark of every row there was, for the next search."""

    def shown(self) -> dict[str, Any]:
        """The document without the rows that are in no group."""
        return self.model_dump(mode="json", exclude={"rows"})

    def write(self, path: Path) -> None:
        """Write it as JSON.

        Raises:
            DataError: when the disk refuses.
        """
        write_whole(path, json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False).encode() + b"\n")

    @classmethod
    def read(cls, path: Path) -> Duplicates:
        """Read what `write` wrote.

        Raises:
            ConfigError: when it is another document, or a newer one.
            DataError: when it cannot be read.
        """
        refuse_pointer(path, DataError)
        try:
            values = parse_json(path.read_bytes())
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from None
        except ValueError as error:
            raise DataError(f"{path} is no JSON: {error}") from None
        if not isinstance(values, dict) or values.get("what") != "duplicates":
            raise ConfigError(f"{path} is no result of dedupe; expected a file that `dedupe --out` wrote")
        return read_model(cls, values, str(path))

    def as_earlier(self, collection: str, fingerprint: str, max_distance: int) -> Earlier:
        """Itself as the ground of another search.

        Raises:
            ConfigError: when it is about another collection, model or distance.
        """
        for what, mine, theirs in (
            ("the collection", self.collection, collection),
            ("the model", self.fingerprint[:12], fingerprint[:12]),
            ("a largest distance of", self.max_distance, max_distance),
        ):
            if mine != theirs:
                raise ConfigError(
                    f"the earlier result is about {what} {mine}, this search about {theirs}; search without it"
                )
        return Earlier(self.rows, [[one.id for one in group.members] for group in self.groups])


def tally(groups: Iterable[Group], kind: Kind) -> Tally:
    """Count the groups of one kind."""
    sizes = [len(group.members) for group in groups if group.kind == kind]
    return Tally(groups=len(sizes), rows=sum(sizes), spare=sum(sizes) - len(sizes))


def spare_rows(groups: Sequence[Group], kinds: Iterable[Kind], keep: Keep = "first") -> list[str]:
    """Ids of all rows but one of each group of these kinds, ascending.

    >>> a, b = (Member(id=i, path=p, label="", content_sha="", distance=0) for i, p in [("7", "a.jpg"), ("5", "b.jpg")])
    >>> group = Group(kind="exact", distance=0, members=(a, b))
    >>> spare_rows([group], ["exact"]), spare_rows([group], ["exact"], "last"), spare_rows([group], ["near"])
    (['5'], ['7'], [])
    """
    wanted = set(kinds)
    parts = [group.members for group in groups if group.kind in wanted]
    return sorted({one.id for part in parts for one in (part[1:] if keep == "first" else part[:-1])})


def write_csv(path: Path, groups: Sequence[Group]) -> None:
    """One line a member; groups are numbered from 1. Texts that a spreadsheet would compute are marked by `csv_cell`.

    Raises:
        DataError: when the disk refuses.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["group", "kind", *Member.model_fields])
    for number, group in enumerate(groups, 1):
        lines.writerows([number, group.kind, *map(csv_cell, one.model_dump().values())] for one in group.members)
    write_whole(path, text.getvalue().encode(errors="backslashreplace"))
