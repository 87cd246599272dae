"""Options of every command that reads photos, what they read, and what is said of it before work begins."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milvus_fghash.cli.messages import tell
from milvus_fghash.cli.options import all_of
from milvus_fghash.errors import ConfigError

if TYPE_CHECKING:
    from milvus_fghash.config import Recipe
    from milvus_fghash.data import Listing, Selection, Url


@dataclass(frozen=True)
class PhotoOptions:
    """How the photos are read."""

    dataset: str | None
    """The layout that was named."""
    selection: Selection

    def layout(self, data: Path | Url, recipe: Recipe | None = None) -> str:
        """The layout that was named, here or by a recipe, or the one that ``data`` looks like."""
        from milvus_fghash.data import detect

        named = recipe.data.dataset if recipe and recipe.data.dataset != "auto" else None
        return self.dataset or named or detect(data)

    def read(self, data: Path | Url, *outputs: Path | None) -> Listing:
        """The photos in ``data``, also those whose path cannot be kept, for who refuses them one by one.

        Args:
            outputs: files that are written, as in `Listing.keep_apart`.

        Raises:
            DataError: when there are none, or something about them is wrong.
            ConfigError: when an output would replace a photo, or the layout takes no class level.
            MissingExtra: for a URL, without the packages it needs.
        """
        listing = self._read(data)
        for out in filter(None, outputs):
            listing.keep_apart(out)
        return listing

    def read_files(self, data: Path, recipe: Recipe | None = None) -> Listing:
        """`read_checked` in the layout of a recipe, for what needs each photo as a file.

        Raises:
            DataError: also when they are in an archive, or behind URLs.
        """
        listing = self._read(data, recipe)
        listing.check_paths()
        assert listing.folder  # which raises
        return listing

    def _read(self, data: Path | Url, recipe: Recipe | None = None) -> Listing:
        from milvus_fghash.cli.progress import progress_bar
        from milvus_fghash.data import read

        with progress_bar("reading the list of photos"):
            return read(self.layout(data, recipe), data, self.selection)


def photo_options(dataset_default: str = "what the folder looks like") -> Callable[[Callable[..., Any]], Any]:
    """Add the options; the command gets them as one `reading`."""
    options = all_of(
        click.option("--dataset", help="Layout of the photos, see `milvus-fghash datasets`.  "
                     f"[default: {dataset_default}]"),
        click.option("--class-level", metavar="top|leaf|NUMBER", default="auto", show_default=False,
                     help="Which folder above a photo is its class: the top one, the one it lies in, or that at this "
                     "level, counted from 1 below the splits.  [default: leaf where all photos lie equally deep, else "
                     "the first level at which folders differ]"),
        click.option("--exclude", metavar="GLOB", multiple=True,
                     help="Leave out files and folders of this name, or of this path where it has a slash; may be "
                     "repeated. Hidden ones and those that systems make, such as @eaDir, are left out anyway."),
        click.option("--follow-links", is_flag=True,
                     help="Follow links to folders, and take photos in that links bring in from outside."),
    )  # fmt: skip

    def decorate(command: Callable[..., Any]) -> Any:
        @functools.wraps(command)
        def gathered(*args: Any, **kwargs: Any) -> Any:
            from milvus_fghash.data.selection import Selection, class_level

            words = [kwargs.pop(name) for name in ("dataset", "class_level", "exclude", "follow_links")]
            dataset, level, exclude, follow_links = words
            try:
                selection = Selection(class_level(level), exclude, follow_links)
            except ConfigError as error:
                raise click.UsageError(str(error)) from None
            reading = PhotoOptions(dataset, selection)
            return command(*args, reading=reading, **kwargs)

        return options(gathered)

    return decorate


def tell_found(listing: Listing) -> None:
    """Say how many photos, classes and splits there are, where the classes come from, and `tell_doubts`."""
    from milvus_fghash.data.survey import facts, summary

    tell(summary(listing), event="photos", **facts(listing))
    tell_doubts(listing)


def tell_doubts(listing: Listing) -> None:
    """Say what was left out, and what is doubtful about the classes."""
    from milvus_fghash.data.survey import LINKED

    survey = listing.survey
    if survey.left_out.counts:
        option = " (--follow-links)" if LINKED in survey.left_out.counts else ""
        tell("; ".join(filter(None, (f"left out: {survey.left_out}", f"{survey.left_out.hint}{option}"))))
    for warning in survey.warnings:
        tell(f"Warning: {warning} (--class-level)", logging.WARNING)
