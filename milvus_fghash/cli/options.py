"""Options that several commands share, each written once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

import click

from milvus_fghash.errors import ConfigError, TooManyRefused
from milvus_fghash.masking import KNOWN, without_secrets

if TYPE_CHECKING:
    from milvus_fghash.config import Recipe
    from milvus_fghash.data import Listing, Url

Command = TypeVar("Command", bound=Callable[..., object])


class _Local(click.Path):
    """A path of something that is there. Of a URL it says what is the matter."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from milvus_fghash.data.places import protocol_of

        if isinstance(value, str) and protocol_of(value):
            self.fail(f"{without_secrets(value)} is a URL, and this command reads files; download it first", param, ctx)
        return super().convert(value, param, ctx)


class _Place(_Local):
    """A path of something that is there, or a URL; where folders are taken, shards by their braces too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from milvus_fghash.data.places import Url, protocol_of

        if isinstance(value, Path | Url):
            return value
        if (protocol := protocol_of(value)) not in ("", "file"):
            KNOWN.add_url(value)
            return Url(value)
        path = unquote(urlsplit(value).path) if protocol else value
        return Path(path) if "{" in path and self.dir_okay else super().convert(path, param, ctx)


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


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
namespace_option = click.option(
    "--namespace",
    default="",
    show_default=False,
    help="Part of every id: lets folders with equal file names share a collection.",
)
own_namespace_option = click.option("--namespace", help="Where --id looks for own ids.  [default: all]")
split_option = click.option("--split", help="Take this part of the photos only, such as train.  [default: all]")
max_errors_option = click.option(
    "--max-errors", type=click.IntRange(min=0), default=0, help="More refused photos than this: exit code 3."
)
journal_option = click.option(
    "--journal",
    type=NEW_PATH,
    help="Folder that remembers what Milvus has.  [default: beside the Milvus Lite file; of a server, below "
    "~/.local/state/milvus-fghash]",
)
batch_size_option = click.option(
    "--batch-size", type=click.IntRange(1, 4096), default=128, help="Rows written together."
)
report_option = click.option("--report", type=NEW_PATH, help="File for one line of JSON for each refused photo.")
patience_option = click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=300.0,
    help="Seconds to wait for a Milvus that is gone or overloaded.",
)
dataset_option = click.option(
    "--dataset", help="Layout of the photos, see `milvus-fghash datasets`.  [default: what the folder looks like]"
)
index_options: Callable[[Command], Command] = all_of(
    click.option("--index", type=click.Choice(["bin_flat", "bin_ivf_flat"]), default="bin_flat",
                 help="Index of a new collection; bin_ivf_flat needs a server."),
    click.option("--nlist", type=click.IntRange(1, 65_536), default=128, help="Clusters of bin_ivf_flat."),
)  # fmt: skip
patience_option = click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=300.0,
    help="Seconds to wait for a Milvus that is gone or overloaded.",
)
training_options: Callable[[Command], Command] = all_of(
    click.option("--data", type=READABLE, required=True, help="Folder (or list) of the photos."),
    click.option("--dataset", help="Layout of the photos, see `milvus-fghash datasets`.  [default: the recipe's]"),
    click.option("--weights", help="imagenet, imagenet-v2, none, or a file.  [default: the recipe's]"),
    click.option("--set", "changes", metavar="KEY=VALUE", multiple=True,
                 help="Change the recipe: training.rounds=3; may be repeated."),
    click.option("--device", help="cpu, cuda, cuda:1 and so on.  [default: cuda if there is one]"),
    click.option("--feature-cache", type=NEW_PATH,
                 help="Folder for the features of a frozen trunk.  [default: in --out]"),
)  # fmt: skip
"""Of what trains; `with_weights` and `layout_of_recipe` say what the first four mean."""
encoder_options: Callable[[Command], Command] = all_of(
    click.option("--provider", help="Where ONNX Runtime computes, such as cpu or cuda.  [default: cuda if it works]"),
    click.option(
        "--threads", type=click.IntRange(min=0), default=0, help="That compute on a CPU; 0: one for each core."
    ),
)
decoding_options: Callable[[Command], Command] = all_of(
    click.option("--workers", type=click.IntRange(min=0),
                 help="Processes that decode; 0 decodes in this one.  [default: one for each core, 8 at the most]"),
    click.option("--decode-timeout", type=click.FloatRange(min=0, min_open=True), default=30.0,
                 help="Seconds after which a worker is ended and its photo refused."),
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


def layout_of(data: Path | Url, dataset: str | None) -> str:
    """What the ``--dataset`` option means: a named layout, or the one that ``data`` looks like."""
    from milvus_fghash.data import detect

    return dataset or detect(data)


def with_weights(changes: tuple[str, ...], weights: str | None) -> tuple[str, ...]:
    """What ``--set`` and ``--weights`` change of a recipe."""
    # TOML has no surrogate pairs, which JSON in ASCII is full of.
    return changes if weights is None else (*changes, f"trunk.weights={json.dumps(weights, ensure_ascii=False)}")


def layout_of_recipe(data: Path, dataset: str | None, recipe: Recipe) -> str:
    """What ``--dataset`` means beside a recipe: `layout_of`, unless the recipe names the layout."""
    named = recipe.data.dataset if recipe.data.dataset != "auto" else None
    return layout_of(data, dataset or named)


def keep_apart(listing: Listing, data: Path | Url, *outputs: Path | None) -> None:
    """Refuse an output that would replace the photos' list or a photo, or be taken for one.

    Raises:
        ConfigError: names the first.
    """
    for out in outputs:
        if out is not None:
            if isinstance(data, Path) and out.resolve() == data.resolve() and data.is_file():
                raise ConfigError(
                    f"{out} is the list of the photos, or their archive; give another file for what is written"
                )
            listing.keep_apart(out)


def keep_away(place: Path, *outputs: Path | None) -> None:
    """`keep_apart` for who has no listing: refuse an output that is the list of photos, or lies in their folder.

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


def read_photos(data: Path | Url, dataset: str | None, any_path: bool = False) -> Listing:
    """The photos in ``data``, read in the layout that `layout_of` says.

    Args:
        any_path: also those whose path cannot be kept, for who refuses them one by one.

    Raises:
        DataError: when there are none, or something about them is wrong.
        MissingExtra: for a URL, without the packages it needs.
    """
    from milvus_fghash.data import read

    listing = read(layout_of(data, dataset), data)
    if not any_path:
        listing.check_paths()
    return listing


def read_part(data: Path | Url, dataset: str | None, split: str | None, *outputs: Path | None) -> Listing:
    """The photos that ``--split`` asks for, those too whose path cannot be kept; raises as `read_photos`.

    Args:
        outputs: files that are written, as in `keep_apart`.
    """
    listing = read_photos(data, dataset, any_path=True)
    keep_apart(listing, data, *outputs)
    return listing.split(split) if split else listing


def read_files(data: Path, dataset: str | None) -> Listing:
    """The same, for what needs each photo as a file.

    Raises:
        DataError: also when they are in an archive, or behind URLs.
    """
    listing = read_photos(data, dataset)
    assert listing.folder  # which raises
    return listing


def refuse_too_many(refused: int, photos: int, max_errors: int, report: Path | None, rest: str = "") -> None:
    """What ``--max-errors`` means at the end of a run: it is done, but for photos that it refused.

    Args:
        rest: a sentence on the others.

    Raises:
        TooManyRefused: when there are more of them than are allowed.
    """
    if refused > max_errors:
        where = f"see {report}" if report else "--report FILE lists them"
        said = f"{refused} of {photos} photos were refused, {max_errors} are allowed (--max-errors); {where}"
        raise TooManyRefused(f"{said}. {rest}" if rest else said)
