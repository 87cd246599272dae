"""The result of a search for duplicates: one JSON document, which the next search can continue from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import AliasChoices, Field

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
PhashDigits = Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")]
"""A perceptual hash as `phash_to_hex` writes it; "" for none."""
Keep = Literal["first", "last"]
"""Which row of a group is kept: the first or the last one by path, and by id where paths are equal."""


class Member(Frozen):
    """A row of a group.

    Attributes:
        id: primary key.
        path: path of the photo, relative to the folder it was ingested from.
        label: class of the photo; "" if it has none.
        content_sha: SHA-256 of the photo's file; "" if it is not known.
        distance: bits in which its code differs from that of the group's first row.
        own_id: its own id, such as a SKU; "" if it has none.
        phash: perceptual hash of the photo in hexadecimal digits; "" if it is not known.
    """

    id: str
    path: str
    label: str
    content_sha: str
    distance: Count
    own_id: str = ""
    phash: PhashDigits = ""


class Group(Frozen):
    """Rows that are duplicates of each other.

    Attributes:
        kind: ``exact`` (equal files) or ``near`` (near perceptual hashes or codes).
        distance: largest distance of its members' codes from that of the first one, in bits.
        members: ordered by path and then by id.
        confirmed: members that are confirmed copies of others, when the first ones are kept.
    """

    kind: Kind
    distance: Count
    members: Annotated[tuple[Member, ...], Field(min_length=2)]
    confirmed: Count = 0


class Tally(Frozen):
    """Counts of the groups of one kind.

    Attributes:
        groups: number of groups.
        rows: rows in these groups.
        redundant: rows beyond one of each group. Called ``spare`` in files written before the name changed.
        confirmed: redundant rows that are confirmed copies of a row that is kept; no others are deleted.
    """

    groups: Count
    rows: Count
    redundant: Count = Field(validation_alias=AliasChoices("redundant", "spare"))
    confirmed: Count = 0


class Duplicates(Frozen):
    """Groups of duplicate rows in a collection.

    Attributes:
        what, format: kind and version of the document.
        made_by: program and version.
        made_at: time in UTC, ISO 8601.
        collection: name of the collection.
        method, fingerprint: training method and fingerprint of the model that made the codes.
        bits: code length.
        max_distance: bits in which codes differ at most that join rows; None: codes were not compared.
        confirmed_within: bits of 64 in which the perceptual hashes of confirmed copies differ at most. Copies are in
            one near group, except in files written before perceptual hashes were searched for.
        n_rows: rows of the collection.
        n_searched: codes searched for: each distinct code once, or only the new ones after an earlier result.
        n_compared_locally: of these, the codes with so many near rows that they were compared with all codes in this
            process instead of in Milvus. Called ``n_compared_here`` in files written before the name changed.
        exact: counts of the groups of equal files.
        near: counts of the groups of near perceptual hashes or codes.
        n_without_phash: rows without a known perceptual hash; only an equal file confirms them.
        note: a warning for the user, or "".
        groups: exact ones first, then ordered by their first member.
        rows: id -> fingerprint of every row, for the next search.
        phashes: id -> perceptual hash that was computed from the photo, in hexadecimal digits, where the collection
            stores none; the next search does not read these photos again.

    Examples:
        >>> from pathlib import Path
        >>> import milvus_fghash as fg
        >>> found = fg.Duplicates.read(Path("groups.json"))  # doctest: +SKIP
        >>> [member.path for member in found.groups[0].members]  # doctest: +SKIP
        ['a.jpg', 'copy_of_a.jpg']
    """

    what: Literal["duplicates"] = "duplicates"
    format: Literal[1] = 1
    made_by: str
    made_at: str
    collection: str
    method: str
    fingerprint: str
    bits: Annotated[int, Field(gt=0)]
    max_distance: Count | None = None
    confirmed_within: Annotated[int, Field(ge=0, le=BITS)] = MAX_COPY_DISTANCE
    n_rows: Count
    n_searched: Count
    n_compared_locally: Count = Field(validation_alias=AliasChoices("n_compared_locally", "n_compared_here"))
    exact: Tally
    near: Tally
    n_without_phash: Count = 0
    note: str = ""
    groups: tuple[Group, ...]
    rows: dict[str, str]
    phashes: dict[str, PhashDigits] = Field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """The document as JSON values, without `rows` and `phashes`.

        Returns:
            Field name -> value.
        """
        return self.model_dump(mode="json", exclude={"rows", "phashes"})

    def write(self, path: Path) -> None:
        """Write the document as JSON.

        Args:
            path: the file; an existing one is replaced.

        Raises:
            DataError: when the file cannot be written.
        """
        write_atomic(path, json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False).encode() + b"\n")

    @classmethod
    def read(cls, path: Path) -> Duplicates:
        """Read a file that `write` wrote.

        Args:
            path: the file.

        Returns:
            The document.

        Raises:
            ConfigError: when it is another document, or of a newer version.
            DataError: when it cannot be read.
        """
        reject_pointer(path, DataError)
        try:
            values = parse_json(read_bounded(path, MAX_LIST_BYTES, regular=False))
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from None
        except ValueError as error:
            raise DataError(f"{path} is not valid JSON: {error}") from None
        if not isinstance(values, dict) or values.get("what") != "duplicates":
            raise ConfigError(f"{path} is not a result of dedupe; expected a file that dedupe wrote")
        return read_model(cls, values, str(path))

    def as_earlier(self, collection: str, fingerprint: str, max_distance: int | None, confirm_within: int) -> Earlier:
        """What a new search continues from.

        Args:
            collection: name of the collection of the new search.
            fingerprint: of the model behind it.
            max_distance: of the new search, in bits; None if it does not compare codes.
            confirm_within: of the new search, in bits.

        Returns:
            Rows and groups of this result.

        Raises:
            ConfigError: when this result is from another collection, model or distance.
        """
        for what, earlier, new in (
            ("collection", self.collection, collection),
            ("model", self.fingerprint[:12], fingerprint[:12]),
            ("largest distance of codes", self.max_distance, max_distance),
            ("largest distance of perceptual hashes", self.confirmed_within, confirm_within),
        ):
            if earlier != new:
                raise ConfigError(
                    f"the earlier result has the {what} {_or_none(earlier)}, this search {_or_none(new)}; search "
                    "without the earlier result"
                )
        return Earlier(self.rows, [[one.id for one in group.members] for group in self.groups])


def _or_none(value: object) -> object:
    return "(none)" if value is None else value


def tally(groups: Iterable[Group], kind: Kind) -> Tally:
    """Count the groups of one kind."""
    parts = [group for group in groups if group.kind == kind]
    rows = sum(len(group.members) for group in parts)
    confirmed = sum(group.confirmed for group in parts)
    return Tally(groups=len(parts), rows=rows, redundant=rows - len(parts), confirmed=confirmed)


def what_is_near(found: Duplicates) -> str:
    """What joins the rows of near groups, for people."""
    hashes = f"perceptual hashes at most {found.confirmed_within} of {BITS} bits apart"
    if found.max_distance is None:
        return hashes
    codes = f"codes at most {found.max_distance} of {found.bits} bits apart"
    return codes if found.n_without_phash == found.n_rows else f"{hashes}, or {codes}"


def copies(members: Sequence[Member], within: int = MAX_COPY_DISTANCE, keep: Keep = "first") -> dict[str, Member]:
    """Id of each confirmed copy -> the row it is a copy of, which is kept.

    A copy is confirmed by an equal file, or by perceptual hashes that differ in at most ``within`` bits from those of a
    row that is kept. Unlike groups, copies are not transitive: of a chain whose ends differ, several rows are kept.
    """
    of_content: dict[str, Member] = {}
    hashed: list[Member] = []
    """Rows that are kept and have a hash."""
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


def redundant_rows(
    groups: Sequence[Group], kinds: Iterable[Kind], keep: Keep = "first", within: int = MAX_COPY_DISTANCE
) -> list[str]:
    """Ids, ascending, of the confirmed copies in all groups of these kinds; see `copies`.

    >>> a, b = (Member(id=key, path="", label="", content_sha="c", distance=0) for key in ("7", "5"))
    >>> group = Group(kind="exact", distance=0, members=(a, b))
    >>> redundant_rows([group], ["exact"]), redundant_rows([group], ["exact"], "last")
    (['5'], ['7'])
    """
    return sorted(copies_of(groups, kinds, keep, within))


def copies_of(
    groups: Sequence[Group], kinds: Iterable[Kind], keep: Keep = "first", within: int = MAX_COPY_DISTANCE
) -> dict[str, Member]:
    """`copies` of all groups of these kinds.

    Raises:
        ConfigError: for an unknown kind of duplicates or an unknown row to keep.
    """
    wanted = set(check_not_string(kinds if isinstance(kinds, str) else list(kinds), "kinds"))
    if unknown := sorted(wanted - set(get_args(Kind))):
        raise ConfigError(f"unknown kind of duplicates {unknown[0]!r}. {nearest(unknown[0], get_args(Kind))}")
    if keep not in get_args(Keep):
        raise ConfigError(f"the row to keep must be 'first' or 'last', not {keep!r}")
    found: dict[str, Member] = {}
    for group in groups:
        if group.kind in wanted:
            found |= copies(group.members, within, keep)
    return found


def write_csv(path: Path, groups: Sequence[Group]) -> None:
    """Write one line per member; groups are numbered from 1. `csv_cell` marks texts that a spreadsheet would compute.

    Raises:
        DataError: when the file cannot be written.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["group", "kind", *Member.model_fields])
    for number, group in enumerate(groups, 1):
        lines.writerows([number, group.kind, *map(csv_cell, one.model_dump().values())] for one in group.members)
    write_atomic(path, text.getvalue().encode(errors="backslashreplace"))
