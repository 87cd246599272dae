"""`milvus-fghash doctor`: what works here, and what to install where it does not."""

from __future__ import annotations

from dataclasses import asdict

import click

from milvus_fghash.cli.connection import Connection, milvus_options
from milvus_fghash.cli.options import json_option
from milvus_fghash.cli.output import show_json, show_table


@click.command()
@milvus_options
@json_option
@click.pass_context
def doctor(ctx: click.Context, connection: Connection, as_json: bool) -> None:
    """Show what works here, and how to repair what does not.

    Lists what is installed, what can encode, which Milvus answers, and where each setting came from.
    Exits with 1 when nothing can encode, or when the Milvus that was named does not answer.

    \b
    Example: milvus-fghash doctor --uri http://localhost:19530
    """
    from milvus_fghash.doctor import examine, is_broken

    findings = examine(connection.target(), connection.asked_for)
    rows = [asdict(finding) for finding in findings]
    settings = [
        {"setting": name, "value": value, "from": connection.sources[name]}
        for name, value in connection.shown().items()
    ]
    if as_json:
        show_json({"healthy": not is_broken(findings), "findings": rows, "settings": settings})
    else:
        show_table(rows)
        click.echo()
        show_table(settings)
    ctx.exit(1 if is_broken(findings) else 0)
