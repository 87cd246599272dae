"""Options and execution of a grid of trainings, shared by `compare` and `ablate`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milvus_fghash.cli.options.common import gathered, json_option
from milvus_fghash.cli.options.paths import NEW_PATH, READABLE
from milvus_fghash.cli.options.photos import PhotoOptions, notify_warnings
from milvus_fghash.cli.options.training import training_options
from milvus_fghash.cli.terminal.messages import notify
from milvus_fghash.cli.terminal.output import show_json
from milvus_fghash.cli.terminal.progress import progress_bar
from milvus_fghash.core.code_length import MAX_BITS, MIN_BITS
from milvus_fghash.errors import ConfigError, optional_extra

if TYPE_CHECKING:
    from milvus_fghash.experiments.grid import GridSpec

HELD_OUT = 0.2
"""Fraction of the training split on which learning rates are tried, unless the recipe sets data.validation."""


def names(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Comma-separated words; empty if the option is absent."""
    words = tuple(word.strip() for word in (value or "").split(",") if word.strip())
    if value is not None and not words:
        raise click.BadParameter("expected comma-separated names", ctx, parameter)
    return words


def lengths(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Comma-separated code lengths, sorted and unique; empty if the option is absent."""
    try:
        found = tuple(sorted({int(word) for word in value.split(",")})) if value is not None else ()
    except ValueError:
        raise click.BadParameter(f"expected comma-separated integers, got {value!r}", ctx, parameter) from None
    wrong = [length for length in found if not MIN_BITS <= length <= MAX_BITS]
    if wrong:
        raise click.BadParameter(f"a code has {MIN_BITS} to {MAX_BITS} bits, got {wrong[0]}", ctx, parameter)
    return found


def protocol_names(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """As `names`, without names that no protocol has."""
    from milvus_fghash.evaluation.protocols import check_protocols

    try:
        return check_protocols(names(ctx, parameter, value))
    except ConfigError as error:
        raise click.BadParameter(str(error), ctx, parameter) from None


@dataclass(frozen=True)
class GridOptions:
    """Values of `grid_options`."""

    bits: tuple[int, ...]
    seeds: int
    heads: tuple[str, ...]
    data: Path
    reading: PhotoOptions
    changes: tuple[str, ...]
    """Includes ``--weights``."""
    device: str | None
    feature_cache: Path | None
    query_split: str
    protocols: tuple[str, ...]
    new_classes: float
    draws: int
    out: Path
    jobs: int
    threads: int | None
    keep_checkpoints: bool
    table_only: bool
    as_json: bool


_OPTIONS = (
    click.option("--bits", callback=lengths, metavar="N,N,...", default="12,24,32,48",
                 help="Comma-separated code lengths in bits."),
    click.option("--seeds", type=click.IntRange(min=1), default=3, help="Number of seeds, starting at 0."),
    click.option("--heads", callback=names, metavar="A,B,...",
                 help="Comma-separated heads, linear or mlp; each is a row of the table.  [default: the recipe's]"),
    click.option("--data", type=READABLE, required=True, help="Folder or list of the photos."),
    training_options,
    click.option("--query-split", default="test", help="Split of the queries in the tables."),
    click.option("--protocols", callback=protocol_names, metavar="P,P,...", default="B,A",
                 help="Comma-separated protocols to measure, of A, B, C, D, D-fitted, E, E2, Mk, Mn."),
    click.option("--new-classes", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.5,
                 help="Share of the classes that are new in C, E, E2, Mk and Mn."),
    click.option("--draws", type=click.IntRange(min=1), default=1,
                 help="Number of draws of the new classes, starting at 0."),
    click.option("--out", type=NEW_PATH, required=True, help="Folder for tables, plots and results."),
    click.option("--jobs", type=click.IntRange(min=1), default=1, help="Concurrent trainings."),
    click.option("--threads", type=click.IntRange(min=1),
                 help="CPU threads per training.  [default: all cores divided by --jobs]"),
    click.option("--keep-checkpoints", is_flag=True, help="Keep the checkpoints of completed trainings in --out."),
    click.option("--table-only", is_flag=True, help="Write the tables of the recorded results without training."),
    json_option,
)  # fmt: skip


def grid_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options; the command receives `GridOptions` as ``options``."""
    fields = (*GridOptions.__dataclass_fields__, "weights")
    return gathered("options", fields, _grid_options, *_OPTIONS)(command)


def _grid_options(changes: tuple[str, ...], weights: str | None, **values: Any) -> GridOptions:
    from milvus_fghash.recipes.loader import with_weights

    return GridOptions(changes=with_weights(changes, weights), **values)


def _notify_of(fit: str) -> Callable[[str], None]:
    """Messages begin with the photos that are fitted on, where these are not all labelled ones."""
    return lambda line: notify(f"{fit}: {line}" if fit else line)


def run_grid(spec: GridSpec, options: GridOptions, what: str, notes: tuple[str, ...] = ()) -> None:
    """Run a grid, print its tables and write its files."""
    from milvus_fghash.evaluation.plots import check_matplotlib
    from milvus_fghash.recipes.loader import compose

    if not options.table_only:
        check_matplotlib()
    with optional_extra("train"):
        from milvus_fghash.experiments.cells import GridContext
        from milvus_fghash.experiments.fits import check_methods, fits, split_dataset
        from milvus_fghash.experiments.grid import Grid, Results
    from milvus_fghash.experiments import plots, tables

    recipe = compose(spec.setting, spec.variants[0].method, spec.changes)
    shared, layout = recipe.data, options.reading.layout(options.data, recipe)
    dataset = options.reading.read_files(options.data, recipe)
    held_out = (shared.validation or HELD_OUT) if spec.trials > 1 else 0.0
    dataset.keep_apart(options.out)
    spec = replace(spec, protocols=options.protocols)
    grids = []
    for fit in fits(options.protocols, options.new_classes, options.draws):
        check_methods(fit, [variant.method for variant in spec.variants])
        splits = split_dataset(dataset, shared.train_split, options.query_split, held_out, fit)
        folder = options.out / "fits" / fit.name if fit.name else options.out
        features = options.feature_cache or options.out / "features"
        grids.append(Grid(spec.fitted_on(fit), GridContext(splits, folder, features, options.device)))
    if not options.table_only:
        notify_warnings(dataset)
    try:
        with progress_bar(what) as update:
            found = [grid.read_results() for grid in grids] if options.table_only else [
                grid.run(
                    jobs=options.jobs,
                    threads=options.threads,
                    keep_trainings=options.keep_checkpoints,
                    notify=_notify_of(grid.spec.fit.name),
                    progress=update,
                )
                for grid in grids
            ]  # fmt: skip
    except KeyboardInterrupt:
        notify("Completed trainings are recorded; run the same command again to continue.")
        raise
    # A run records at least a failed trial, so there are some results unless only tables are asked for.
    if not any(one.cells or one.trials for one in found):
        raise ConfigError(f"{options.out} has no results of this grid; run the command without --table-only")
    results = Results(spec, by_fit=tuple(found))
    title = f"{what}: {layout} {options.data.resolve().name}, {Path(spec.setting).stem}"
    if not options.as_json:  # before writing files, which may fail
        click.echo(tables.markdown(results, title, notes), nl=False)
    files = tables.write_tables(results, options.out, title, notes)
    files += plots.write_plots(results, options.out / "plots")
    if options.as_json:
        show_json({**tables.document(results, title, notes), "files": [str(file) for file in files]})
