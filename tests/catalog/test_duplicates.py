"""Duplicates that are deleted by a result of `dedupe`."""

from __future__ import annotations

from pathlib import Path

import pytest

import milvus_fghash as fg

pytestmark = pytest.mark.full


def test_a_result_that_is_out_of_date_deletes_nothing(catalog: fg.Catalog, photos: Path) -> None:
    """Else all copies of a photo could go, each for the sake of one that is not there any more."""
    photo = photos / "00.png"
    ids = catalog.add(dict.fromkeys(("a.png", "b.png", "c.png"), photo)).ids
    found = catalog.dedupe()
    assert catalog.delete_duplicates(found, dry_run=True) == 2
    catalog.delete([ids["a.png"]])  # the one that would have stayed
    with pytest.raises(fg.Inconsistent, match="search again"):
        catalog.delete_duplicates(found, delete_at_most=1)
    assert catalog.count() == 2
    assert catalog.delete_duplicates(catalog.dedupe(), delete_at_most=1) == 1
    catalog.add({"a.png": photo})
    found = catalog.dedupe()
    catalog.add({"b.png": photos / "01.png"})  # another content under a name that would go
    with pytest.raises(fg.Inconsistent):
        catalog.delete_duplicates(found, delete_at_most=1)


def test_what_is_kept_and_how_much_may_go_is_checked(catalog: fg.Catalog, photos: Path) -> None:
    catalog.add(dict.fromkeys(("a.png", "b.png"), photos / "00.png"))
    found = catalog.dedupe()
    for arguments in ({"keep": "newest"}, {"kinds": ["equal"]}, {"kinds": "exact"}, {"delete_at_most": 10}):
        with pytest.raises(fg.ConfigError):
            catalog.delete_duplicates(found, **arguments)
    with pytest.raises(fg.TooManyDeleted):
        catalog.delete_duplicates(found)
    assert catalog.count() == 2
