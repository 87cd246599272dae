"""`milvus-fghash ablate`: train variants of one method and tabulate the results."""

from __future__ import annotations

import click

from milvus_fghash.cli.grid import GridOptions, grid_options, run_grid
from milvus_fghash.errors import optional_extra


@click.command()
@click.argument("setting")
@click.option("--method", default="fcaenet", help="Method to ablate.")
@grid_options
def ablate(setting: str, method: str, options: GridOptions) -> None:
    """Ablate the components of one method (tables and plots).

    For FCAENet: its components, and the number and size of the erased boxes, as in Tables 2 to 4 of the paper. For
    KinHash: the training of its classifier, the source of its class codes, and the softmax temperature. All rows use
    the learning rate of the recipe. Results are recorded in --out; the same command resumes an interrupted run. The
    protocols are those of `compare`.

    \b
    Example: milvus-fghash ablate frozen --data photos --bits 24 --out runs/ablation
    """
    with optional_extra("train"):
        from milvus_fghash.experiments.grid import GridSpec
        from milvus_fghash.experiments.variants import ABLATION_NOTES, ablation_variants

    variants = ablation_variants(setting, method, options.heads, options.bits, options.changes)
    spec = GridSpec(setting, variants, options.bits, options.seeds, changes=options.changes)
    run_grid(spec, options, f"Ablation of {method}", (ABLATION_NOTES[method],))
