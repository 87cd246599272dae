"""The files that a grid leaves: table.md, table-GALLERY.csv, results.json, and plots as PNG."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.experiments import plots, tables
from milvus_fghash.experiments.grid import Results


def write_report(results: Results, out: Path, title: str, notes: Sequence[str] = ()) -> list[Path]:
    """Write all of them; gives the files.

    Raises:
        MissingExtra: without matplotlib; the tables are written before.
        DataError: when the disk rejects.
    """
    values = json.dumps(tables.document(results, title, notes), indent=1, ensure_ascii=False, allow_nan=False)
    files = [
        write_atomic(out / "table.md", tables.markdown(results, title, notes).encode()),
        *(
            write_atomic(out / f"table-{gallery}.csv", tables.long_csv(results, gallery).encode())
            for gallery in tables.GALLERIES
        ),
        write_atomic(out / "results.json", (values + "\n").encode()),
    ]
    drawn = plots.write_plots(results, out / "plots")
    for older in plots.drawn_before(out / "plots") - set(drawn):  # of rows that the tables do not have any more
        older.unlink()
    return [*files, *drawn]
