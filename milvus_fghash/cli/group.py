"""The command group: turns errors into one line on stderr and an exit code."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from typing import Any, Final

import click

from milvus_fghash.cli.terminal.messages import is_json, notify, settle
from milvus_fghash.core.masking import masked
from milvus_fghash.errors import FghashError, nearest, one_line

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT, errno.EBADF})
"""Error numbers of a stdout that cannot be written; errors of files carry a file name."""


class Group(click.Group):
    """Converts `FghashError` into one line; any other exception is a bug and shows its traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command; characters that stdout cannot encode are escaped."""
        if sys.stdout is None:  # closed by the parent process
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open until the process ends
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
            with open(os.devnull, "wb") as null:  # otherwise Python writes the buffer again at exit
                os.dup2(null.fileno(), sys.stdout.fileno())
            _notify(f"the result cannot be written: {error.strerror}; completed work is kept", "DataError", 1)
            ctx.exit(1)
        except KeyboardInterrupt:
            notify("Interrupted.", logging.ERROR, "error", kind="KeyboardInterrupt", exit_code=INTERRUPTED)
            ctx.exit(INTERRUPTED)
        except click.ClickException as error:
            vars(error)["message"] = masked(error.message)  # declared final by click
            if not is_json():
                raise
            _notify(error.format_message(), type(error).__name__, error.exit_code)
            ctx.exit(error.exit_code)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Options before the command name can be wrong too, and contain secrets."""
        try:
            return super().make_context(*args, **kwargs)
        except click.ClickException as error:
            vars(error)["message"] = masked(error.message)  # declared final by click
            raise

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"unknown command {args[0]!r}. {nearest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of use, not of the alphabet."""
        return list(self.commands)


def _option_for(settings: str, command: click.Command | None) -> str:
    """The options for these settings of an error, as a suffix of its message, as far as the command has them.

    For a group, the options of its subcommands are used: a name has the same meaning in all of them.
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
    found = [options[setting] for setting in settings.split() if setting in options]
    return f" ({', '.join(found)})" if found else ""


def _notify(message: str, kind: str, exit_code: int) -> None:
    """Print the last line of a command that failed."""
    settle()
    line = message if is_json() else f"Error: {message}"
    notify(line, logging.ERROR, "error", kind=kind, exit_code=exit_code)
