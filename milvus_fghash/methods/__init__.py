"""The table of methods. Importing it needs no torch; `load` does."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from milvus_fghash.errors import ConfigError, nearest, optional_part


@dataclass(frozen=True)
class Card:
    """What can be said of a method without importing it."""

    title: str
    source: str
    learns: Literal["nothing", "projection", "network", "network+codes", "network+class codes"]
    """Methods that learn codes give a learned gallery: of each training photo, or of its class."""
    needs: Literal["features", "maps"] = "features"
    """Whether pooled features of a frozen trunk are enough to train it, or it works on the maps below them."""


METHODS: dict[str, Card] = {
    "lsh": Card("Random hyperplanes", "Charikar, STOC 2002", "nothing"),
    "baseline": Card("ADSH with the full trunk", "Jiang & Li, AAAI 2018; FCAENet Table 1", "network+codes"),
    "fcaenet": Card(
        "Feature consistency driven attention erasing", "FCAENet, Pattern Recognition 2022", "network+codes"
    ),
}


def card(name: str) -> Card:
    """The table's line for a method.

    Raises:
        ConfigError: when the table has no such method.
    """
    if name not in METHODS:
        raise ConfigError(f"no method named {name!r}. {nearest(name, METHODS)}")
    return METHODS[name]


def load(name: str) -> ModuleType:
    """Import the one file of a method; it has `Config` and `Method`.

    Raises:
        ConfigError: when the table has no such method.
        MissingExtra: when torch is not installed.
    """
    card(name)
    with optional_part("train"):
        return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
