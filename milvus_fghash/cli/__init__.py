"""The `milvus-fghash` command: parses options, makes one call, prints the result.

Results go to stdout (a table, or one document with ``--json``), progress and messages to stderr. Exit codes: 0 success,
1 an error (one line), 2 wrong usage, 3 completed but more photos rejected than allowed, 130 interrupted.
"""

from __future__ import annotations

import logging

import click

from milvus_fghash._version import __version__
from milvus_fghash.cli.ablate import ablate
from milvus_fghash.cli.advise import advise
from milvus_fghash.cli.collections import collections
from milvus_fghash.cli.compare import compare
from milvus_fghash.cli.dedupe import dedupe
from milvus_fghash.cli.delete import delete
from milvus_fghash.cli.demo import demo
from milvus_fghash.cli.doctor import doctor
from milvus_fghash.cli.evaluate import evaluate
from milvus_fghash.cli.explain import explain
from milvus_fghash.cli.export import export
from milvus_fghash.cli.group import Group
from milvus_fghash.cli.ingest import ingest
from milvus_fghash.cli.inspect import inspect
from milvus_fghash.cli.layouts import layouts
from milvus_fghash.cli.methods import methods
from milvus_fghash.cli.promote import promote, rollback
from milvus_fghash.cli.recipes import recipes
from milvus_fghash.cli.reindex import reindex
from milvus_fghash.cli.search import search
from milvus_fghash.cli.shards import shards
from milvus_fghash.cli.terminal.messages import FORMATS, LEVELS, write_messages
from milvus_fghash.cli.train import train
from milvus_fghash.cli.verify import verify
from milvus_fghash.cli.wrap import wrap
from milvus_fghash.core.masking import KNOWN_SECRETS

__all__ = ["main"]


def _begin_messages(_ctx: click.Context, _parameter: click.Parameter, style: str) -> None:
    """Set up messages while options are parsed, because an unknown command is a message too."""
    KNOWN_SECRETS.clear()
    write_messages(style)


@click.group(cls=Group, context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("--log-level", type=click.Choice(LEVELS), default="warning", help="Lowest level of log messages to show.")
@click.option("--log-format", type=click.Choice(FORMATS), default="text", envvar="MILVUS_FGHASH_LOG_FORMAT",
              show_envvar=True, expose_value=False, callback=_begin_messages,
              help="json: write stderr as one JSON object per line, for log collectors.")  # fmt: skip
def main(log_level: str) -> None:
    """Fine-grained deep hashing for Milvus: photos -> binary codes -> search.

    \b
    Workflow:  train -> export -> ingest -> search, evaluate
    Try it:    milvus-fghash demo
    """
    logging.getLogger().setLevel(log_level.upper())


for command in (advise, train, export, wrap, ingest, shards, verify, search, dedupe, delete, evaluate, explain):
    main.add_command(command)
for command in (compare, ablate, demo):
    main.add_command(command)
for command in (reindex, promote, rollback):
    main.add_command(command)
for command in (methods, layouts, recipes, collections, inspect, doctor):
    main.add_command(command)
