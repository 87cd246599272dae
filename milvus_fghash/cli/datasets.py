"""`milvus-fghash datasets`: the layouts of photos that can be read."""

from __future__ import annotations

import click

from milvus_fghash.cli.options import json_option
from milvus_fghash.cli.output import show_json, show_table


@click.command()
@json_option
def datasets(as_json: bool) -> None:
    """List the layouts of photos that can be read.

    \b
    Example: milvus-fghash datasets
    """
    from milvus_fghash.datasets.read import DATASETS

    rows = [
        {"name": name, "title": card.title, "layout": card.layout, "source": card.source}
        for name, card in DATASETS.items()
    ]
    if as_json:
        show_json(rows)
    else:
        show_table(rows)
