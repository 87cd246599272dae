"""A model as a JSON file of its own, for what one run writes down and a later one asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from milvus_fghash.bounded_file import NOTE_BYTES, read_bounded
from milvus_fghash.config import Frozen, read_model
from milvus_fghash.errors import ConfigError, DataError
from milvus_fghash.text_file import parse_json
from milvus_fghash.whole_file import write_whole

M = TypeVar("M", bound=Frozen)


def read_json(path: Path, model: type[M], next_step: str) -> M | None:
    """A file that `write_json` wrote; None where there is none.

    Args:
        next_step: the end of the message.

    Raises:
        DataError: when it cannot be read or understood.
    """
    try:
        return read_model(model, parse_json(read_bounded(path, NOTE_BYTES)), str(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}{next_step}") from None
    except (ValueError, TypeError, ConfigError) as error:
        raise DataError(f"cannot read {path}: {error}{next_step}") from None


def write_json(path: Path, model: Frozen) -> None:
    """Write it whole; raises DataError when the disk refuses."""
    write_whole(path, (json.dumps(model.model_dump(), indent=1, allow_nan=False) + "\n").encode())
