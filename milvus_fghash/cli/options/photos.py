"""Options of the commands that read photos, and the summary of the dataset that they print before they start."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from milvus_fghash.cli.options.common import Option, gathered
from milvus_fghash.cli.terminal.messages import notify
from milvus_fghash.errors import ConfigError

if TYPE_CHECKING:
    from milvus_fghash.datasets.read import Dataset, Selection, Url
    from milvus_fghash.recipes.schema import Recipe


@dataclass(frozen=True)
class PhotoOptions:
    """How photos are read."""

    given_layout: str | None
    """Layout given by ``--layout``."""
    selection: Selection

    def words(self) -> list[str]:
        """These options as a command line has them."""
        selection = self.selection
        words = ["--layout", self.given_layout] if self.given_layout else []
        words += ["--class-level", str(selection.class_level)] if selection.class_level != "auto" else []
        words += [word for glob in selection.exclude for word in ("--exclude", glob)]
        return words + ["--follow-links"] * selection.follow_links

    def layout(self, data: Path | Url, recipe: Recipe | None = None) -> str:
        """The layout given by ``--layout`` or by the recipe; otherwise it is detected from ``data``."""
        from milvus_fghash.datasets.read import detect

        named = recipe.data.layout if recipe and recipe.data.layout != "auto" else None
        return self.given_layout or named or detect(data)

    def read(self, data: Path | Url, *outputs: Path | None) -> Dataset:
        """The photos in ``data``, including those with unusable paths, which the caller rejects one by one.

        Args:
            outputs: files that the command writes; see `Dataset.keep_apart`.

        Raises:
            DataError: when there are no photos, or the dataset is invalid.
            ConfigError: when an output would overwrite a photo, or the layout has no class level.
            MissingExtra: for a URL whose packages are not installed.
        """
        dataset = self._read(data)
        for out in filter(None, outputs):
            dataset.keep_apart(out)
        return dataset

    def read_files(self, data: Path, recipe: Recipe | None = None) -> Dataset:
        """The photos in ``data`` in the layout of a recipe, for commands that need each photo as a local file.

        Raises:
            DataError: as `read`, and when the photos are in an archive or behind URLs.
        """
        dataset = self._read(data, recipe)
        dataset.check_paths()
        dataset.check_local()
        return dataset

    def _read(self, data: Path | Url, recipe: Recipe | None = None) -> Dataset:
        from milvus_fghash.cli.terminal.progress import progress_bar
        from milvus_fghash.datasets.read import read

        with progress_bar("reading the list of photos"):
            return read(self.layout(data, recipe), data, self.selection)


def photo_options(default_layout: str = "detected") -> Option:
    """The options; the command receives `PhotoOptions` as ``reading``."""
    return gathered(
        "reading", ("layout", "class_level", "exclude", "follow_links"), _photo_options,
        click.option("--layout", help="Layout of the dataset; see `milvus-fghash layouts`.  "
                     f"[default: {default_layout}]"),
        click.option("--class-level", metavar="top|leaf|NUMBER", default="auto", show_default=False,
                     help="Folder level that names the class: top, leaf (the folder of the photo), or a number counted "
                     "from 1 below the splits.  [default: leaf if all photos are equally deep, else the first level "
                     "with more than one folder]"),
        click.option("--exclude", metavar="GLOB", multiple=True,
                     help="Skip files and folders whose name matches, or whose path matches if GLOB has a slash. May "
                     "be repeated. Hidden and system files, such as @eaDir, are always skipped."),
        click.option("--follow-links", is_flag=True,
                     help="Follow symbolic links to folders, and accept photos that are linked from outside."),
    )  # fmt: skip


def _photo_options(layout: str | None, class_level: str, exclude: tuple[str, ...], follow_links: bool) -> PhotoOptions:
    from milvus_fghash.datasets.selection import Selection
    from milvus_fghash.datasets.selection import class_level as parsed

    try:
        return PhotoOptions(layout, Selection(parsed(class_level), exclude, follow_links))
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


def notify_dataset(dataset: Dataset) -> None:
    """Print the numbers of photos, classes and splits and the origin of the classes; then `notify_warnings`."""
    from milvus_fghash.datasets.dataset import facts, summary

    notify(summary(dataset), event="photos", **facts(dataset))
    notify_warnings(dataset)


def notify_warnings(dataset: Dataset) -> None:
    """Print what was skipped, and warnings about the classes."""
    from milvus_fghash.datasets.read_report import LINKED

    read_report = dataset.read_report
    if read_report.left_out.counts:
        option = " (--follow-links)" if LINKED in read_report.left_out.counts else ""
        notify("; ".join(filter(None, (f"left out: {read_report.left_out}", f"{read_report.left_out.hint}{option}"))))
    for warning in read_report.warnings:
        notify(f"Warning: {warning} (--class-level)", logging.WARNING)
