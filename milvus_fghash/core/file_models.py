"""Immutable pydantic models of files, as JSON: unknown keys are rejected, with the nearest known key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.core.bounded_file import MAX_RECORD_BYTES, read_bounded
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.errors import ConfigError, DataError, nearest


class Frozen(BaseModel):
    """Base of every model that is read from a file: immutable, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


M = TypeVar("M", bound=BaseModel)
F = TypeVar("F", bound=Frozen)


def read_model(model: type[M], values: Mapping[str, Any], where: str) -> M:
    """Validate ``values``; the error names each faulty key, and for an unknown one the nearest known key.

    Raises:
        ConfigError: for an unknown key, a wrong type or a value out of range.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_explain(model, fault) for fault in error.errors())) from None


def read_json(path: Path, model: type[F], next_step: str) -> F | None:
    """A model written by `write_json`; None when the file does not exist.

    Args:
        next_step: appended to the message.

    Raises:
        DataError: when it cannot be read or is invalid.
    """
    try:
        return read_model(model, parse_json(read_bounded(path, MAX_RECORD_BYTES)), str(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}{next_step}") from None
    except (ValueError, TypeError, ConfigError) as error:
        raise DataError(f"cannot read {path}: {error}{next_step}") from None


def write_json(path: Path, model: Frozen) -> None:
    """Write a model atomically; raises DataError when that fails."""
    write_atomic(path, (json.dumps(model.model_dump(by_alias=True), indent=1, allow_nan=False) + "\n").encode())


def _explain(model: type[BaseModel], fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        *tables, key = fault["loc"]
        known = _known_keys(model, tables)
        below = [f"{table}.{key}" for table in known if key in _known_keys(model, [*tables, table])]
        hint = f"Did you mean {' or '.join(below)}?" if below else nearest(str(key), known)
        return f"unknown key {place!r}. {hint}"
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] in ("model_type", "dict_type"):
        return f"{place}: expected a table of keys (got {fault['input']!r})"
    if isinstance(fault["input"], Mapping):  # its values contradict each other, as the message says
        return f"{place}: {message}"
    return f"{place}: {message} (got {fault['input']!r})" if place else message


def _known_keys(model: type[BaseModel], tables: Iterable[Any]) -> list[str]:
    """The keys of a nested table of a model; none where it has free keys."""
    for table in tables:
        annotation = model.model_fields[str(table)].annotation
        candidates = [annotation, *get_args(annotation)]
        inner = [kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)
