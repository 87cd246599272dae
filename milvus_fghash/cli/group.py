"""The one place that turns errors into a line on stderr and an exit code."""

from __future__ import annotations

from typing import Any

import click

from milvus_fghash.cli.messages import Secrets
from milvus_fghash.errors import FghashError, nearest

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class Group(click.Group):
    """Errors raised on purpose become one line; anything else is a bug and shows its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FghashError as error:
            secrets = ctx.find_object(Secrets) or Secrets()
            click.echo("Error: " + secrets.mask(" ".join(str(error).split())), err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}. {nearest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the road, not of the alphabet."""
        return list(self.commands)
