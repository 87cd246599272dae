"""`milvus-fghash compare`: many methods in one setting -> tables and plots."""

from __future__ import annotations

import click

from milvus_fghash.cli.grid import GridOptions, grid_options, lengths, names, run_grid
from milvus_fghash.errors import optional_extra


@click.command()
@click.argument("setting")
@click.option("--methods", callback=names, metavar="A,B,...", help="Methods between commas.  [default: all]")
@click.option("--trials", type=click.IntRange(min=1), default=3, help="Learning rates tried for each row; odd.")
@click.option(
    "--trial-bits",
    callback=lengths,
    metavar="N,N,...",
    help="Code lengths of the trials; for others the nearest counts.  [default: each its own]",
)
@grid_options
def compare(
    setting: str, methods: tuple[str, ...], trials: int, trial_bits: tuple[int, ...], options: GridOptions
) -> None:
    """Train many methods in one SETTING; tables and plots.

    SETTING is a shipped one (frozen, finetune, demo, ...) or a .toml file. Every method that learns by gradient gets
    the same number of learning rates, tried on training photos held out; then each cell is trained on the whole
    training split. What is finished is recorded in --out, so the same command goes on where it was stopped.

    \b
    Example: milvus-fghash compare frozen --data photos --methods lsh,baseline --out runs/compare
    """
    with optional_extra("train"):
        from milvus_fghash.experiments.grid import GridSpec
        from milvus_fghash.experiments.learning_rates import rate_factors
        from milvus_fghash.experiments.variants import comparison_variants

    rate_factors(trials)
    variants, notes = comparison_variants(setting, methods, options.heads, options.changes)
    spec = GridSpec(setting, variants, options.bits, options.seeds, trials, trial_bits, options.changes)
    run_grid(spec, options, "Comparison", notes)
