"""Options that several commands share, each written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from milvus_fghash.core.masking import KNOWN_SECRETS, without_secrets
from milvus_fghash.errors import ConfigError, TooManyRejected

if TYPE_CHECKING:
    from milvus_fghash.milvus.schema import IndexType

Command = TypeVar("Command", bound=Callable[..., object])


class _Local(click.Path):
    """A path of something that is there. Of a URL it says what is the matter."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from milvus_fghash.datasets.sources.location import protocol_of

        if isinstance(value, str) and protocol_of(value):
            self.fail(f"{without_secrets(value)} is a URL, and this command reads files; download it first", param, ctx)
        return super().convert(value, param, ctx)


class _Place(_Local):
    """A path of something that is there, or a URL; where folders are taken, shards by their braces too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from milvus_fghash.datasets.sources.location import Url, parse_location, protocol_of

        if isinstance(value, Path | Url):
            return value
        place = parse_location(value)
        if isinstance(place, Url):
            KNOWN_SECRETS.add_url(place.full)
            return place
        if "{" in str(place) and self.dir_okay:
            return place
        return super().convert(str(place) if protocol_of(value) else value, param, ctx)  # "" is no path, and none else


PHOTOS = _Place(exists=True, path_type=Path)
PHOTO = _Place(exists=True, dir_okay=False, path_type=Path)
READABLE = _Local(exists=True, path_type=Path)
READABLE_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
READABLE_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_PATH = click.Path(path_type=Path)


def all_of(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, shown by ``--help`` in the given order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _together(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> str | None:
    from milvus_fghash.datasets.dataset import split_names

    return ",".join(split_names(",".join(values))) if values else None


def _as_milvus_calls_it(ctx: click.Context, parameter: click.Parameter, index: str | None) -> IndexType | None:
    """None where nobody asked: an existing collection keeps what it has."""
    return cast("IndexType", index.upper()) if index else None


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
namespace_option = click.option(
    "--namespace",
    default="",
    show_default=False,
    help="Part of every id: lets folders with equal file names share a collection.",
)
own_namespace_option = click.option("--namespace", help="Where --id looks for own ids.  [default: all]")
split_option = click.option(
    "--split",
    multiple=True,
    callback=_together,
    help="Take this part of the photos only, such as train; may be repeated, or list several between commas.  "
    "[default: all]",
)
"""The command gets one text, as `Dataset.split` takes it, or None."""
max_errors_option = click.option(
    "--max-errors", type=click.IntRange(min=0), default=0, help="More rejected photos than this: exit code 3."
)
journal_option = click.option(
    "--journal",
    type=NEW_PATH,
    help="Folder that remembers what Milvus has.  [default: beside the Milvus Lite file; of a server, below "
    "~/.local/state/milvus-fghash]",
)
rows_per_write_option = click.option(
    "--rows-per-write", type=click.IntRange(1, 4096), default=1000, help="Most rows in one write to Milvus."
)
report_option = click.option("--report", type=NEW_PATH, help="File for one line of JSON for each rejected photo.")
retry_option = click.option(
    "--retry-timeout",
    "retry",
    type=click.FloatRange(min=0),
    default=300.0,
    help="Seconds to wait for a Milvus that is gone or overloaded.",
)
index_options: Callable[[Command], Command] = all_of(
    click.option("--index", type=click.Choice(["bin_flat", "bin_ivf_flat"]), callback=_as_milvus_calls_it,
                 help="Index of a new collection; bin_ivf_flat needs a server.  [default: bin_flat]"),
    click.option("--nlist", type=click.IntRange(1, 65_536), default=128, help="Clusters of bin_ivf_flat."),
)  # fmt: skip
row_options: Callable[[Command], Command] = all_of(
    click.option("--code-hex", is_flag=True, help="Keep the code as text too; cheaper to fetch than the vector."),
    click.option("--embedding", is_flag=True, help="Keep the bundle's embedding too."),
    click.option("--phash/--no-phash", default=None,
                 help="Keep a perceptual hash of each photo, 8 bytes: dedupe confirms near duplicates by it.  "
                 "[default: phash]"),
    click.option("--column", "columns", metavar="NAME[:TYPE]", multiple=True,
                 help="Give a new collection this column of DATA, for filters; TYPE is text, int64, double or bool. "
                 "The others go into `meta`. May be repeated.  [default: TYPE of the cells; of CSV: text]"),
    click.option("--partition-key", metavar="NAME",
                 help="Of these columns, the one by which a server parts the rows."),
)  # fmt: skip
"""What each row of a new collection keeps. ``phash`` is None where nobody asked."""
encoder_options: Callable[[Command], Command] = all_of(
    click.option("--provider", help="Where ONNX Runtime computes, such as cpu or cuda.  [default: cuda if it works]"),
    click.option(
        "--threads", type=click.IntRange(min=0), default=0, help="That compute on a CPU; 0: one for each core."
    ),
    click.option(
        "--encode-timeout",
        type=click.FloatRange(min=0, min_open=True, max=86_400),
        default=300.0,
        help="Seconds for a batch of photos in the bundle's graph, before the run ends with an error.",
    ),
)
decoding_options: Callable[[Command], Command] = all_of(
    click.option("--workers", type=click.IntRange(min=0),
                 help="Processes that decode; 0 decodes in this one.  [default: one for each core, 8 at the most]"),
    click.option("--decode-timeout", type=click.FloatRange(min=0, min_open=True), default=30.0,
                 help="Seconds after which a worker is ended and its photo rejected."),
)  # fmt: skip


def consistency_option(default: str | None) -> Callable[[Command], Command]:
    """Without a default, the collection's own level counts."""
    return click.option(
        "--consistency",
        type=click.Choice(["Strong", "Session", "Bounded", "Eventually"]),
        default=default,
        help="Bounded may miss rows written a moment ago, Strong never does."
        + ("" if default else "  [default: the collection's]"),
    )


def keep_away(place: Path, *outputs: Path | None) -> None:
    """`Dataset.keep_apart` for who has no listing: reject an output that is the list of photos, or lies in their place.

    Raises:
        ConfigError: names the first.
    """
    for out in outputs:
        if out is None or not out.resolve().is_relative_to(place.resolve()):
            continue
        inside = out.resolve().relative_to(place.resolve())
        if not place.is_dir():
            raise ConfigError(
                f"{out} is the list of the photos, or their archive; give another file for what is written"
            )
        if not any(part.startswith(".") for part in inside.parts):
            raise ConfigError(f"{out} lies among the photos of {place}; give a place beside them for what is written")


def reject_too_many(rejected: int, photos: int, max_errors: int, report: Path | None, rest: str = "") -> None:
    """What ``--max-errors`` means at the end of a run: it is done, but for photos that it rejected.

    Args:
        rest: a sentence on the others.

    Raises:
        TooManyRejected: when there are more of them than are allowed.
    """
    if rejected > max_errors:
        where = f"see {report}" if report else "--report FILE lists them"
        said = f"{rejected} of {photos} photos were rejected, {max_errors} are allowed (--max-errors); {where}"
        raise TooManyRejected(f"{said}. {rest}" if rest else said)
