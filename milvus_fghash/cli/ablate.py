"""`milvus-fghash ablate`: one method without its parts, or with other sizes of them -> tables and plots."""

from __future__ import annotations

import click

from milvus_fghash.cli.grid import GridOptions, grid_options, run_grid
from milvus_fghash.errors import optional_extra


@click.command()
@click.argument("setting")
@click.option("--method", default="fcaenet", help="Method that is taken apart.")
@grid_options
def ablate(setting: str, method: str, options: GridOptions) -> None:
    """Train one method without its parts; tables and plots.

    For FCAENet: its components, the number of boxes and their size, as in the paper's Tables 2 to 4. For KinHash: how
    its classifier is taught, where its class codes come from, how codes tell the classifier's doubt. All rows have the
    recipe's learning rate. What is finished is recorded in --out, so the same command goes on where it was stopped.

    \b
    Example: milvus-fghash ablate frozen --data photos --bits 24 --heads linear --out runs/ablation
    """
    with optional_extra("train"):
        from milvus_fghash.experiments.grid import GridSpec
        from milvus_fghash.experiments.variants import ABLATION_NOTES, ablation_variants

    variants = ablation_variants(setting, method, options.heads, options.bits, options.changes)
    spec = GridSpec(setting, variants, options.bits, options.seeds, changes=options.changes)
    run_grid(spec, options, f"Ablation of {method}", (ABLATION_NOTES[method],))
