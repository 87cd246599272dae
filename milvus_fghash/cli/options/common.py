"""Options that several commands share, each defined once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from milvus_fghash.cli.options.paths import NEW_PATH
from milvus_fghash.errors import TooManyRejected

if TYPE_CHECKING:
    from milvus_fghash.milvus.schema import IndexType

Command = TypeVar("Command", bound=Callable[..., object])
Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def combined(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, listed by ``--help`` in the given order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def gathered(name: str, fields: Iterable[str], build: Callable[..., object], *options: Option) -> Option:
    """Several options as one decorator; the command receives a single argument ``name``.

    Args:
        fields: names of the parameters that the options define; those a command lacks are skipped.
        build: called with these parameters.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def call(*args: Any, **kwargs: Any) -> Any:
            values = {field: kwargs.pop(field) for field in fields if field in kwargs}
            return command(*args, **{name: build(**values)}, **kwargs)

        return combined(*options)(call)

    return decorate


def _joined(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> str | None:
    from milvus_fghash.datasets.dataset import split_names

    return ",".join(split_names(",".join(values))) if values else None


def _index_type(ctx: click.Context, parameter: click.Parameter, index: str | None) -> IndexType | None:
    """The name that Milvus uses. None if the option is absent: an existing collection keeps its index."""
    return cast("IndexType", index.upper()) if index else None


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
namespace_option = click.option(
    "--namespace",
    default="",
    show_default=False,
    help="Prefix of every id: folders with the same file names can share a collection.",
)
own_namespace_option = click.option("--namespace", help="Namespace in which --id looks up own ids.  [default: all]")


def split_option_of(default: str) -> Option:
    """`--split`; the command receives one text, in the form of `Dataset.split`, or None."""
    return click.option(
        "--split",
        multiple=True,
        callback=_joined,
        help="Only use photos of this split, such as train. May be repeated or a comma-separated list.  "
        f"[default: {default}]",
    )


split_option = split_option_of("all")
max_errors_option = click.option(
    "--max-errors",
    type=click.IntRange(min=0),
    default=0,
    help="Exit with code 3 if more photos than this are rejected.",
)
journal_option = click.option(
    "--journal",
    type=NEW_PATH,
    help="Folder of the ingest journal.  [default: next to the Milvus Lite file; for a server, below "
    "~/.local/state/milvus-fghash]",
)
rows_per_write_option = click.option(
    "--rows-per-write", type=click.IntRange(1, 4096), default=1000, help="Rows per write to Milvus."
)
report_option = click.option("--report", type=NEW_PATH, help="Write one JSON line per rejected photo to this file.")
retry_option = click.option(
    "--retry-timeout",
    "retry",
    type=click.FloatRange(min=0),
    default=300.0,
    help="Seconds for which writes are retried while Milvus is unavailable or overloaded.",
)
index_options: Callable[[Command], Command] = combined(
    click.option("--index", type=click.Choice(["bin_flat", "bin_ivf_flat"]), callback=_index_type,
                 help="Index of a new collection. bin_ivf_flat needs a Milvus server.  [default: bin_flat]"),
    click.option("--nlist", type=click.IntRange(1, 65_536), default=128, help="Number of clusters of bin_ivf_flat."),
)  # fmt: skip
row_options: Callable[[Command], Command] = combined(
    click.option("--code-hex", is_flag=True,
                 help="Also store the code as hexadecimal text, which is faster to fetch than the vector."),
    click.option("--embedding", is_flag=True, help="Also store the embedding, if the bundle has one."),
    click.option("--phash/--no-phash", default=None,
                 help="Store a perceptual hash of each photo (8 bytes), by which dedupe finds near duplicates.  "
                 "[default: phash]"),
    click.option("--column", "columns", metavar="NAME[:TYPE]", multiple=True,
                 help="Create a typed column for this column of the photo list, for use in filters. TYPE is text, "
                 "int64, double or bool. Other columns are stored in `meta`. May be repeated.  [default: the type in "
                 "Parquet; text in CSV]"),
    click.option("--partition-key", metavar="NAME",
                 help="Column (text or int64) by which a Milvus server partitions the rows."),
)  # fmt: skip
"""What each row of a new collection stores. ``phash`` is None if the option is absent."""
encoder_options = gathered(
    "encoding", ("provider", "threads", "encode_timeout"), dict,
    click.option("--provider", help="ONNX Runtime execution provider, such as cpu or cuda.  [default: cuda if it "
                 "works, else cpu]"),
    click.option("--threads", type=click.IntRange(min=0), default=0,
                 help="CPU threads that run the model; 0: one per core."),
    click.option("--encode-timeout", type=click.FloatRange(min=0, min_open=True, max=86_400), default=300.0,
                 help="Seconds that the model may take per batch before the command fails."),
)  # fmt: skip
"""The command receives them as keyword arguments of `Catalog.open` and `Encoder.open`."""
decoding_options = gathered(
    "decoding", ("workers", "decode_timeout"), dict,
    click.option("--workers", type=click.IntRange(min=0),
                 help="Processes that decode photos; 0: decode in the main process.  [default: one per core, at most "
                 "8]"),
    click.option("--decode-timeout", type=click.FloatRange(min=0, min_open=True), default=30.0,
                 help="Seconds after which a photo that is still decoding is rejected."),
)  # fmt: skip
"""The command receives them as keyword arguments of `IngestOptions` and `ShardOptions`."""


def consistency_option(default: str | None) -> Callable[[Command], Command]:
    """``--consistency``; without a default, the level of the collection applies."""
    return click.option(
        "--consistency",
        type=click.Choice(["Strong", "Session", "Bounded", "Eventually"]),
        default=default,
        help="Consistency level of Milvus: Strong reads all rows written so far, Bounded may miss the latest ones."
        + ("" if default else "  [default: the collection's level]"),
    )


def check_rejected(rejected: int, photos: int, max_errors: int, report: Path | None, others: str = "") -> None:
    """Apply ``--max-errors`` at the end of a run that completed.

    Args:
        others: a sentence about the photos that were not rejected.

    Raises:
        TooManyRejected: when more photos were rejected than are allowed.
    """
    if rejected > max_errors:
        where = f"see {report}" if report else "--report FILE lists them"
        message = f"{rejected} of {photos} photos were rejected, {max_errors} are allowed (--max-errors); {where}"
        raise TooManyRejected(f"{message}. {others}" if others else message)
