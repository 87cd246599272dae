"""The record of one training of a grid, and the file of records, which survives a kill.

The file has one JSON document per line. Only the process that runs the grid writes it; each line is on disk before
the grid goes on. An incomplete last line, left by a kill, is dropped when the file is opened again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from milvus_fghash.core.bounded_file import check_regular
from milvus_fghash.core.file_models import Frozen, read_model
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.errors import ConfigError, DataError, FghashError
from milvus_fghash.evaluation.quality import Quality
from milvus_fghash.evaluation.record import RELEVANCE, RadiusCurve
from milvus_fghash.recipes.schema import Recipe, differences

try:
    import fcntl
except ImportError:  # on Windows; then nothing prevents two grids from writing one folder
    fcntl = None  # type: ignore[assignment]


ENCODED, LEARNED = "encoded", "learned"
"""The galleries of protocol A, with the codes that the network computes and with those that were learned. The gallery
of another protocol has the protocol's name."""


class Identity(Frozen):
    """Everything that decides the figures of a training, except for rounding: equal identities need one training."""

    recipe: Recipe
    """At this code length and seed, without what changes no figure (`description`, `training.workers`); local weights
    are given by their digest."""
    options: dict[str, Any]
    """All options of the method, with their defaults."""
    bits: int
    photos: str
    """Digest of the ids and classes of the photos that are fitted on, and of those that are searched and queried."""


class Score(Frozen):
    """Figures of one gallery, over all queries."""

    source: str
    """Where the gallery's codes come from: "network", "V", "B", "class codes"."""
    map_exact: float
    map_sorted: float
    map_at: dict[int, float] = Field(default_factory=dict)
    """k -> mAP@k, where the gallery is larger than the k of papers."""
    precision_at: dict[int, float]
    reach: float | None = None
    """None in records made before it was measured."""
    floats: Quality | None = None
    """The cosine of the features that the codes were made of; of frozen backbones, so that it is the ceiling."""
    lda: dict[str, Quality] = Field(default_factory=dict)
    """The same after a linear discriminant analysis with the labels that the method had; see `float_ceilings`."""
    pr_curve: RadiusCurve
    distinct_codes: int
    constant_bits: int


class Record(Frozen):
    """One training and its figures."""

    name: str
    """Of the cell or trial; unique in a file."""
    identity: Identity
    failed: str | None = None
    """Why there are no figures: the loss or the outputs were not finite."""
    encoded: Score | None = None
    """Protocol A; None where the protocols have another fit."""
    learned: Score | None = None
    """None when the method has no learned codes."""
    protocols: dict[str, Score] = Field(default_factory=dict)
    """Name of each further protocol of the fit -> its figures; none in trials."""
    n_queries: int
    n_gallery: int
    relevance: str = RELEVANCE
    """Which gallery photos count as hits, in words."""
    curve: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Loss term -> its mean in each round; 0 in a round without it."""
    seconds: float = 0.0
    """Duration of all rounds; for a method without rounds, of its training."""
    versions: dict[str, str] = Field(default_factory=dict)
    device: str = ""
    threads: int = 0
    """Of torch on the CPU. Like device and versions they influence rounding, hence the last digits of the figures."""

    @model_validator(mode="before")
    @classmethod
    def _b_had_a_field_of_its_own(cls, values: dict[str, Any]) -> dict[str, Any]:
        """So it was before the protocols had names; such a folder of results can still be continued."""
        if new := (values := dict(values)).pop("new", None):
            values["protocols"] = {"B": new}
        return values

    @property
    def scores(self) -> dict[str, Score]:
        """The figures by gallery."""
        of_a = {ENCODED: self.encoded, LEARNED: self.learned}
        return {name: score for name, score in of_a.items() if score} | self.protocols

    def score(self, gallery: str) -> Score | None:
        return self.scores.get(gallery)

    @property
    def learning_rate(self) -> float:
        return self.identity.recipe.training.learning_rate


class Store:
    """Records by name, in an append-only file; a context manager that locks the file for one writing process."""

    def __init__(self, path: Path, *, writing: bool = True) -> None:
        """Read the file; a missing file is empty.

        Args:
            path: the file.
            writing: create and lock it. If False, another grid may be writing it meanwhile.

        Raises:
            ConfigError: when another grid is writing it, or a line is not a record of this version.
            DataError: when it cannot be read or written, or a line other than the last is damaged.
        """
        self.path = path
        self.records: dict[str, Record] = {}
        try:
            if writing:
                path.parent.mkdir(parents=True, exist_ok=True)
            elif not path.exists():
                return
            if path.exists():
                check_regular(path)
            self._file = open(path, "a+b" if writing else "rb")  # noqa: SIM115 - open as long as the grid runs
        except OSError as error:
            raise DataError(f"cannot open {path}: {error.strerror}; choose another folder", setting="out") from None
        try:
            if writing:
                self._lock()
            for record in self._read(drop=writing):
                self.records.setdefault(record.name, record)
        except FghashError:
            self._file.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def append(self, record: Record) -> None:
        """Add a record; it is on disk when this returns."""
        try:
            self._file.write(record.model_dump_json().encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror}") from None
        self.records[record.name] = record

    def find(self, name: str, identity: Identity) -> Record | None:
        """The record of this name, if there is one.

        Raises:
            ConfigError: when its identity differs; names the first field that does.
        """
        record = self.records.get(name)
        if record is None:
            return None
        now, then = identity.model_dump(mode="json"), record.identity.model_dump(mode="json")
        for place, old, new in differences(then, now):
            raise ConfigError(
                f"{self.path} holds {name} with {place} = {old}, and now it is {new}; delete the lines of the cells to "
                "train again, or choose another folder",
                setting="out",
            )
        return record

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another grid is running in {self.path.parent}; wait for it, choose another folder, or only show the "
                "tables",
                setting="out table_only",
            ) from None

    def _read(self, *, drop: bool) -> Iterator[Record]:
        self._file.seek(0)
        raw = self._file.read()
        complete = raw.rfind(b"\n") + 1
        if drop and complete < len(raw):
            self._file.truncate(complete)
        for number, line in enumerate(raw[:complete].splitlines(), 1):
            where = f"line {number} of {self.path}"
            try:
                values = parse_json(line)
            except ValueError as error:
                raise DataError(f"{where} is damaged ({error}); delete it to train that cell again") from None
            if not isinstance(values, dict):
                raise DataError(f"{where} is not a record; delete it")
            yield read_model(Record, values, where)
