"""What a search for duplicates says: one document, to be read by people, by programs, and by the next search."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import Field

from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.core.bounded_file import MAX_LIST_BYTES, read_bounded
from milvus_fghash.core.codes import hamming
from milvus_fghash.core.file_models import Frozen, read_model
from milvus_fghash.core.lfs_pointer import reject_pointer
from milvus_fghash.core.perceptual_hash import BITS, MAX_COPY_DISTANCE
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.core.untrusted_text import csv_cell
from milvus_fghash.dedupe.grouping import Earlier, Kind
from milvus_fghash.errors import ConfigError, DataError, check_not_string, nearest

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
    phash: Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")] = ""
    """Perceptual hash of its photo, hexadecimal; "" where it is not known."""


class Group(Frozen):
    """Rows that are duplicates of each other, by path and then by id."""

    kind: Kind
    distance: Count
    """Largest distance of its members. Joins go on from row to row, so it may pass the `max_distance` of the search."""
    members: Annotated[tuple[Member, ...], Field(min_length=2)]
    confirmed: Count = 0
    """Rows that are confirmed copies of others: so many go when the first ones stay."""


class Tally(Frozen):
    """How much was found of one kind."""

    groups: Count
    rows: Count
    """Rows that are in a group."""
    spare: Count
    """Rows that could go if one of each group stayed."""
    confirmed: Count = 0
    """Of these, how many are confirmed copies of a row that stays: no others are deleted."""


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
    confirmed_within: Annotated[int, Field(ge=0, le=BITS)] = MAX_COPY_DISTANCE
    """In bits of 64; perceptual hashes of confirmed copies differ in at most so many."""
    n_rows: Count
    n_searched: Count
    """Codes that were searched for: one of each kind there is, or what an earlier result left open."""
    n_compared_here: Count
    """How many of them had so many rows near that they were compared here, with all codes, and not in Milvus."""
    exact: Tally
    near: Tally
    n_without_phash: Count = 0
    """Rows of near groups whose perceptual hash is not known, so that nothing but an equal file confirms them."""
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
            DataError: when the disk rejects.
        """
        write_atomic(path, json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False).encode() + b"\n")

    @classmethod
    def read(cls, path: Path) -> Duplicates:
        """Read what `write` wrote.

        Raises:
            ConfigError: when it is another document, or a newer one.
            DataError: when it cannot be read.
        """
        reject_pointer(path, DataError)
        try:
            values = parse_json(read_bounded(path, MAX_LIST_BYTES, regular=False))
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from None
        except ValueError as error:
            raise DataError(f"{path} is no JSON: {error}") from None
        if not isinstance(values, dict) or values.get("what") != "duplicates":
            raise ConfigError(f"{path} is no result of dedupe; expected a file that dedupe wrote")
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
    parts = [group for group in groups if group.kind == kind]
    rows = sum(len(group.members) for group in parts)
    confirmed = sum(group.confirmed for group in parts)
    return Tally(groups=len(parts), rows=rows, spare=rows - len(parts), confirmed=confirmed)


def copies(members: Sequence[Member], within: int = MAX_COPY_DISTANCE, keep: Keep = "first") -> dict[str, Member]:
    """Id of each row that is a confirmed copy -> the row it is a copy of, which stays.

    A pair is confirmed by equal files, or by perceptual hashes that differ in at most ``within`` bits. Joins by code go
    on from row to row, and this does not: of a chain whose ends differ, more rows than one stay.
    """
    of_content: dict[str, Member] = {}
    hashed: list[Member] = []
    """Rows that stay and have a hash."""
    hashes = np.zeros((len(members), BITS // 8), np.uint8)
    found = {}
    for one in members if keep == "first" else members[::-1]:
        stays = of_content.get(one.content_sha) if one.content_sha else None
        phash = np.frombuffer(bytes.fromhex(one.phash), np.uint8)
        if stays is None and len(phash) and hashed:
            distances = hamming(phash[None], hashes[: len(hashed)])[0]
            nearest = int(distances.argmin())
            stays = hashed[nearest] if distances[nearest] <= within else None
        if stays is not None:
            found[one.id] = stays
        elif len(phash):
            hashes[len(hashed)] = phash
            hashed.append(one)
        if one.content_sha:
            of_content.setdefault(one.content_sha, stays or one)
    return found


def spare_rows(
    groups: Sequence[Group], kinds: Iterable[Kind], keep: Keep = "first", within: int = MAX_COPY_DISTANCE
) -> list[str]:
    """Ids of all rows of these kinds of groups that are confirmed copies of rows that stay, ascending; see `copies`.

    >>> a, b = (Member(id=key, path="", label="", content_sha="c", distance=0) for key in ("7", "5"))
    >>> group = Group(kind="exact", distance=0, members=(a, b))
    >>> spare_rows([group], ["exact"]), spare_rows([group], ["exact"], "last"), spare_rows([group], ["near"])
    (['5'], ['7'], [])
    """
    return sorted(copies_of(groups, kinds, keep, within))


def copies_of(
    groups: Sequence[Group], kinds: Iterable[Kind], keep: Keep = "first", within: int = MAX_COPY_DISTANCE
) -> dict[str, Member]:
    """`copies` of all groups of these kinds together.

    Raises:
        ConfigError: for another kind, or another row to keep, than there are.
    """
    wanted = set(check_not_string(kinds if isinstance(kinds, str) else list(kinds), "kinds"))
    if unknown := sorted(wanted - set(get_args(Kind))):
        raise ConfigError(f"there is no kind of duplicates {unknown[0]!r}. {nearest(unknown[0], get_args(Kind))}")
    if keep not in get_args(Keep):
        raise ConfigError(f"the row of a group that stays is the first or the last, not {keep!r}")
    found: dict[str, Member] = {}
    for group in groups:
        if group.kind in wanted:
            found |= copies(group.members, within, keep)
    return found


def write_csv(path: Path, groups: Sequence[Group]) -> None:
    """One line a member; groups are numbered from 1. Texts that a spreadsheet would compute are marked by `csv_cell`.

    Raises:
        DataError: when the disk rejects.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["group", "kind", *Member.model_fields])
    for number, group in enumerate(groups, 1):
        lines.writerows([number, group.kind, *map(csv_cell, one.model_dump().values())] for one in group.members)
    write_atomic(path, text.getvalue().encode(errors="backslashreplace"))
