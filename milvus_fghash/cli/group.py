"""The one place that turns errors into a line on stderr and an exit code."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from typing import Any, Final

import click

from milvus_fghash.cli.messages import is_json, notify, settle
from milvus_fghash.core.masking import masked
from milvus_fghash.errors import FghashError, nearest, one_line

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT, errno.EBADF})
"""What a stream says that takes no more. Of files, the library tells by itself."""


class Group(click.Group):
    """Errors raised on purpose become one line; anything else is a bug and shows its traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command; letters that stdout cannot encode, such as those of a file name, become escapes."""
        if sys.stdout is None:  # closed by who started us
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process lives
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FghashError as error:
            option = _option_for(error.setting, self.get_command(ctx, ctx.invoked_subcommand or ""))
            _notify(one_line(error) + option, type(error).__name__, error.exit_code)
            ctx.exit(error.exit_code)
        except OSError as error:
            if error.filename is not None or error.errno not in UNWRITABLE:
                raise
            with open(os.devnull, "wb") as nowhere:  # or Python tries once more to write it as it ends
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            _notify(f"the result cannot be written: {error.strerror}; what was done stays", "DataError", 1)
            ctx.exit(1)
        except KeyboardInterrupt:
            notify("Interrupted.", logging.ERROR, "error", kind="KeyboardInterrupt", exit_code=INTERRUPTED)
            ctx.exit(INTERRUPTED)
        except click.ClickException as error:
            vars(error)["message"] = masked(error.message)  # final, says click
            if not is_json():
                raise
            _notify(error.format_message(), type(error).__name__, error.exit_code)
            ctx.exit(error.exit_code)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Options before the command's name can be wrong, too, and hold what is secret."""
        try:
            return super().make_context(*args, **kwargs)
        except click.ClickException as error:
            vars(error)["message"] = masked(error.message)  # final, says click
            raise

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}. {nearest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the road, not of the alphabet."""
        return list(self.commands)


def _option_for(settings: str, command: click.Command | None) -> str:
    """How the message of an error goes on where the command has options for the settings that help.

    Of a command with commands of its own, these are looked through: one name means one thing in all of them.
    """
    if command is None:
        return ""
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    options = {
        parameter.name: max(parameter.opts, key=len)
        for one in (*inner, command)
        for parameter in one.params
        if isinstance(parameter, click.Option)
    }
    wanted = settings.split()
    found = [options[setting] for setting in wanted if setting in options]
    return f" ({', '.join(found)})" if found else ""


def _notify(message: str, kind: str, exit_code: int) -> None:
    """The last line of a run that failed."""
    settle()
    line = message if is_json() else f"Error: {message}"
    notify(line, logging.ERROR, "error", kind=kind, exit_code=exit_code)
