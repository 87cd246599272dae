"""Options of every command that reads photos, what they read, and what is said of it before work begins."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milvus_fghash.cli.messages import notify
from milvus_fghash.cli.options import all_of
from milvus_fghash.errors import ConfigError

if TYPE_CHECKING:
    from milvus_fghash.datasets.read import Dataset, Selection, Url
    from milvus_fghash.recipes.schema import Recipe


@dataclass(frozen=True)
class PhotoOptions:
    """How the photos are read."""

    given_layout: str | None
    """The layout that was named."""
    selection: Selection

    def layout(self, data: Path | Url, recipe: Recipe | None = None) -> str:
        """The layout that was named, here or by a recipe, or the one that ``data`` looks like."""
        from milvus_fghash.datasets.read import detect

        named = recipe.data.layout if recipe and recipe.data.layout != "auto" else None
        return self.given_layout or named or detect(data)

    def read(self, data: Path | Url, *outputs: Path | None) -> Dataset:
        """The photos in ``data``, also those whose path cannot be kept, for who rejects them one by one.

        Args:
            outputs: files that are written, as in `Dataset.keep_apart`.

        Raises:
            DataError: when there are none, or something about them is wrong.
            ConfigError: when an output would replace a photo, or the layout takes no class level.
            MissingExtra: for a URL, without the packages it needs.
        """
        dataset = self._read(data)
        for out in filter(None, outputs):
            dataset.keep_apart(out)
        return dataset

    def read_files(self, data: Path, recipe: Recipe | None = None) -> Dataset:
        """`read_checked` in the layout of a recipe, for what needs each photo as a file.

        Raises:
            DataError: also when they are in an archive, or behind URLs.
        """
        dataset = self._read(data, recipe)
        dataset.check_paths()
        assert dataset.folder  # which raises
        return dataset

    def _read(self, data: Path | Url, recipe: Recipe | None = None) -> Dataset:
        from milvus_fghash.cli.progress import progress_bar
        from milvus_fghash.datasets.read import read

        with progress_bar("reading the list of photos"):
            return read(self.layout(data, recipe), data, self.selection)


def photo_options(dataset_default: str = "what the folder looks like") -> Callable[[Callable[..., Any]], Any]:
    """Add the options; the command gets them as one `reading`."""
    options = all_of(
        click.option("--layout", help="Layout of the photos, see `milvus-fghash datasets`.  "
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
            from milvus_fghash.datasets.selection import Selection, class_level

            words = [kwargs.pop(name) for name in ("layout", "class_level", "exclude", "follow_links")]
            layout, level, exclude, follow_links = words
            try:
                selection = Selection(class_level(level), exclude, follow_links)
            except ConfigError as error:
                raise click.UsageError(str(error)) from None
            reading = PhotoOptions(layout, selection)
            return command(*args, reading=reading, **kwargs)

        return options(gathered)

    return decorate


def notify_found(dataset: Dataset) -> None:
    """Say how many photos, classes and splits there are, where the classes come from, and `notify_warnings`."""
    from milvus_fghash.datasets.dataset import facts, summary

    notify(summary(dataset), event="photos", **facts(dataset))
    notify_warnings(dataset)


def notify_warnings(dataset: Dataset) -> None:
    """Say what was left out, and what is doubtful about the classes."""
    from milvus_fghash.datasets.read_report import LINKED

    read_report = dataset.read_report
    if read_report.left_out.counts:
        option = " (--follow-links)" if LINKED in read_report.left_out.counts else ""
        notify("; ".join(filter(None, (f"left out: {read_report.left_out}", f"{read_report.left_out.hint}{option}"))))
    for warning in read_report.warnings:
        notify(f"Warning: {warning} (--class-level)", logging.WARNING)
