"""`milvus-fghash methods`: list the hash methods."""

from __future__ import annotations

from dataclasses import asdict

import click

from milvus_fghash.cli.options.common import json_option
from milvus_fghash.cli.terminal.output import show_json, show_table


@click.command()
@json_option
def methods(as_json: bool) -> None:
    """List the hash methods.

    \b
    Example: milvus-fghash methods
    """
    from milvus_fghash.methods import METHODS

    rows = [{"name": name, **asdict(card)} for name, card in METHODS.items()]
    if as_json:
        show_json(rows)
    else:
        show_table(rows)
