"""The demonstration that needs no training."""

from __future__ import annotations

MOST_BYTES = 2_000_000
