"""`milvus-fghash doctor`: check the installation and the connection to Milvus."""

from __future__ import annotations

from dataclasses import asdict

import click

from milvus_fghash.cli.options.common import json_option
from milvus_fghash.cli.options.connection import Connection, milvus_options
from milvus_fghash.cli.terminal.output import show_json, show_table


@click.command()
@milvus_options
@json_option
@click.pass_context
def doctor(ctx: click.Context, connection: Connection, as_json: bool) -> None:
    """Check the installation and the connection to Milvus.

    Lists the installed packages, the execution providers, whether Milvus answers, and the source of each connection
    setting. The exit code is 1 if photos cannot be encoded, or if the given Milvus does not answer.

    \b
    Example: milvus-fghash doctor --uri http://localhost:19530
    """
    from milvus_fghash.doctor import examine, is_broken

    findings = examine(connection.config(), connection.is_explicit)
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
