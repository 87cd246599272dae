"""`milvus-fghash compare`: train several methods in one setting and tabulate the results."""

from __future__ import annotations

import click

from milvus_fghash.cli.grid import GridOptions, grid_options, lengths, names, run_grid
from milvus_fghash.errors import optional_extra


@click.command()
@click.argument("setting")
@click.option("--methods", callback=names, metavar="A,B,...", help="Comma-separated methods.  [default: all]")
@click.option("--trials", type=click.IntRange(min=1), default=3, help="Number of learning rates to try per row (odd).")
@click.option(
    "--trial-bits",
    callback=lengths,
    metavar="N,N,...",
    help="Code lengths for which learning rates are tried; others use the nearest.  [default: every length]",
)
@grid_options
def compare(
    setting: str, methods: tuple[str, ...], trials: int, trial_bits: tuple[int, ...], options: GridOptions
) -> None:
    """Compare methods in one SETTING (tables and plots).

    SETTING is a built-in setting (frozen, finetune, demo, ...) or a .toml file. For every method that is trained by
    gradient descent, the same number of learning rates is tried on held-out training photos; then each table cell is
    trained on the full training split. Results are recorded in --out; the same command resumes an interrupted run.

    What the figures say depends on the protocol: B new photos of known classes, A the training photos themselves, C
    classes that training did not see, D training without labels, E and E2 new classes whose photos are trained on
    without labels, Mk and Mn a gallery of known and new classes. Each has its table, with the floats of the same
    features. Protocols that train on other photos add trainings: one set for C, D and E to Mn each, for every draw.

    \b
    Example: milvus-fghash compare frozen --data photos --methods lsh,baseline --out runs/compare
             milvus-fghash compare frozen --data photos --methods itq,posterior-itq --protocols B,C,D,E2,Mn --draws 3
                 --out runs/protocols
    """
    with optional_extra("train"):
        from milvus_fghash.experiments.grid import GridSpec
        from milvus_fghash.experiments.learning_rates import rate_factors
        from milvus_fghash.experiments.variants import comparison_variants

    rate_factors(trials)
    variants, notes = comparison_variants(setting, methods, options.heads, options.changes)
    spec = GridSpec(setting, variants, options.bits, options.seeds, trials, trial_bits, options.changes)
    run_grid(spec, options, "Comparison", notes)
