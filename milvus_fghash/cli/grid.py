"""What `compare` and `ablate` share: their options, and the run of a grid."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milvus_fghash.cli.messages import notify
from milvus_fghash.cli.options import (
    NEW_PATH,
    all_of,
    json_option,
)
from milvus_fghash.cli.output import show_json
from milvus_fghash.cli.photo_options import PhotoOptions, notify_warnings
from milvus_fghash.cli.progress import progress_bar
from milvus_fghash.cli.training_options import training_options
from milvus_fghash.errors import ConfigError, optional_extra

if TYPE_CHECKING:
    from milvus_fghash.experiments.grid import GridSpec

HELD_OUT = 0.2
"""Part of the training split that asks in the trials, unless the recipe's data.validation says otherwise."""


def names(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Words between commas; none where the option is not given."""
    words = tuple(word.strip() for word in (value or "").split(",") if word.strip())
    if value is not None and not words:
        raise click.BadParameter("expected names between commas", ctx, parameter)
    return words


def lengths(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Code lengths between commas, each once, ascending; none where the option is not given."""
    try:
        found = tuple(sorted({int(word) for word in value.split(",")})) if value is not None else ()
    except ValueError:
        raise click.BadParameter(f"expected whole numbers between commas, got {value!r}", ctx, parameter) from None
    wrong = [length for length in found if not 8 <= length <= 256]
    if wrong:
        raise click.BadParameter(f"a code has 8 to 256 bits, got {wrong[0]}", ctx, parameter)
    return found


@dataclass(frozen=True)
class GridOptions:
    """The options that `grid_options` adds."""

    bits: tuple[int, ...]
    seeds: int
    heads: tuple[str, ...]
    data: Path
    reading: PhotoOptions
    changes: tuple[str, ...]
    """``--weights`` is one of them."""
    device: str | None
    feature_cache: Path | None
    query_split: str
    out: Path
    jobs: int
    threads: int | None
    keep_trainings: bool
    table_only: bool
    as_json: bool


_OPTIONS = (
    click.option("--bits", callback=lengths, metavar="N,N,...", default="12,24,32,48", help="Code lengths."),
    click.option("--seeds", type=click.IntRange(min=1), default=3, help="How many seeds, from 0."),
    click.option("--heads", callback=names, metavar="A,B,...", default="linear,mlp", help="Each is a row of its own."),
    training_options,
    click.option("--query-split", default="test", help="Part of the photos that asks in the tables."),
    click.option("--out", type=NEW_PATH, required=True, help="Folder for tables, plots and records."),
    click.option("--jobs", type=click.IntRange(min=1), default=1, help="Trainings side by side."),
    click.option("--threads", type=click.IntRange(min=1), help="Of each training.  [default: all, shared by --jobs]"),
    click.option("--keep-trainings", is_flag=True, help="Keep the checkpoints of finished cells in --out."),
    click.option("--table-only", is_flag=True, help="Train nothing; write the tables of what there is."),
    json_option,
)  # fmt: skip
_NAMES = tuple(GridOptions.__dataclass_fields__)


def grid_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as one `options`."""

    @functools.wraps(command)
    def gathered(*args: Any, **kwargs: Any) -> Any:
        from milvus_fghash.recipes.loader import with_weights

        kwargs["changes"] = with_weights(kwargs["changes"], kwargs.pop("weights"))
        return command(*args, options=GridOptions(**{name: kwargs.pop(name) for name in _NAMES}), **kwargs)

    decorated: Callable[..., Any] = all_of(*_OPTIONS)(gathered)
    return decorated


def run_grid(spec: GridSpec, options: GridOptions, what: str, notes: tuple[str, ...] = ()) -> None:
    """Run a grid, show its tables, write its files."""
    from milvus_fghash.evaluation.plots import check_matplotlib
    from milvus_fghash.recipes.loader import compose

    if not options.table_only:
        check_matplotlib()
    with optional_extra("train"):
        from milvus_fghash.experiments.cells import GridContext, split_dataset
        from milvus_fghash.experiments.grid import Grid
    from milvus_fghash.experiments import plots, tables

    recipe = compose(spec.setting, spec.variants[0].method, spec.changes)
    shared, layout = recipe.data, options.reading.layout(options.data, recipe)
    dataset = options.reading.read_files(options.data, recipe)
    held_out = (shared.validation or HELD_OUT) if spec.trials > 1 else 0.0
    dataset.keep_apart(options.out)
    splits = split_dataset(dataset, shared.train_split, options.query_split, held_out)
    context = GridContext(splits, options.out, options.feature_cache or options.out / "features", options.device)
    grid = Grid(spec, context)
    if not options.table_only:
        notify_warnings(dataset)
    try:
        with progress_bar(what) as update:
            results = (
                grid.read_results()
                if options.table_only
                else grid.run(
                    jobs=options.jobs,
                    threads=options.threads,
                    keep_trainings=options.keep_trainings,
                    notify=notify,
                    progress=update,
                )
            )
    except KeyboardInterrupt:
        notify("What is finished is recorded; the same command goes on from there.")
        raise
    if not results.cells and not results.trials:  # only looked at: a run leaves at least a trial that failed
        raise ConfigError(f"{options.out} holds nothing of this grid; run it without --table-only")
    title = f"{what}: {layout} {options.data.resolve().name}, {Path(spec.setting).stem}"
    if not options.as_json:  # before the files: whatever becomes of them, the table has been seen
        click.echo(tables.markdown(results, title, notes), nl=False)
    files = tables.write_tables(results, options.out, title, notes)
    files += plots.write_plots(results, options.out / "plots")
    if options.as_json:
        show_json({**tables.document(results, title, notes), "files": [str(file) for file in files]})
