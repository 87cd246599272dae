"""A result of dedupe with the groups that a test wants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from milvus_fghash.dedupe.report import Duplicates, Group, tally


def duplicates(groups: Sequence[Group], **more: Any) -> Duplicates:
    """Of 48 bits at distance 3; ``more`` says otherwise."""
    values: dict[str, Any] = {
        "made_by": "test",
        "made_at": "2026-01-01T00:00:00+00:00",
        "collection": "photos",
        "method": "itq",
        "fingerprint": "f" * 64,
        "bits": 48,
        "max_distance": 3,
        "n_rows": 10,
        "n_searched": 9,
        "n_compared_locally": 0,
        "rows": {},
    }
    totals = {"exact": tally(groups, "exact"), "near": tally(groups, "near")}
    return Duplicates(**{**values, **totals, "groups": tuple(groups), **more})
