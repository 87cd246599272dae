"""Records and results without a training."""

from __future__ import annotations

from collections.abc import Mapping

from milvus_fghash.evaluation.record import RadiusCurve
from milvus_fghash.experiments.grid import GridSpec, Results, Variant
from milvus_fghash.experiments.records import Identity, Record, Score
from milvus_fghash.recipes.loader import load_recipe
from milvus_fghash.recipes.schema import Recipe

RECIPE = load_recipe("demo-baseline")

LSH = Variant("lsh", "lsh")
BASELINE = Variant("baseline", "baseline", "linear")
OTHER = Variant("baseline", "baseline", "mlp")


def score(value: float, source: str = "network") -> Score:
    curve = RadiusCurve(precision=(None, 0.5, 0.25), recall=(0.0, 0.5, 1.0))
    return Score(
        source=source,
        map_exact=value,
        map_sorted=value,
        precision_at={1: value / 2},
        pr_curve=curve,
        distinct_codes=3,
        constant_bits=0,
    )


def record(
    name: str = "cell",
    encoded: float | None = 0.5,
    learned: float | None = None,
    *,
    recipe: Recipe = RECIPE,
    source: str = "V",
    curve: Mapping[str, tuple[float, ...]] | None = None,
) -> Record:
    return Record(
        name=name,
        identity=Identity(recipe=recipe, options={"gamma": 20.0}, bits=12, photos="p"),
        failed="the loss is not finite" if encoded is None else None,
        encoded=None if encoded is None else score(encoded),
        learned=None if learned is None else score(learned, source),
        n_queries=1200,
        n_gallery=2400,
        curve=dict(curve or {}),
        seconds=0.0 if encoded is None else 1.5,
    )


def results() -> Results:
    """Two seeds at two lengths; LSH without, the Baseline with a learned gallery; a third row of which half is run."""
    spec = GridSpec("demo", (LSH, BASELINE, OTHER), (12, 48), 2, trials=3, trial_bits=(24,))
    made = Results(spec)
    for bits, (first, second) in {12: (0.1, 0.3), 48: (0.25, 0.25)}.items():
        made.cells[LSH, bits, 0] = record(f"lsh-{bits}-0", first)
        made.cells[LSH, bits, 1] = record(f"lsh-{bits}-1", second)
    curve = {"pairs": (4.0, 1.0), "quantisation": (4.0, 3.0)}
    for bits in (12, 48):
        for seed, (encoded, learned) in enumerate([(0.4, 0.6), (0.5, 0.8)]):
            made.cells[BASELINE, bits, seed] = record(f"baseline-{bits}-{seed}", encoded, learned, curve=curve)
    made.cells[OTHER, 12, 1] = record("other-12-1", 0.7, 0.9)
    for variant, tried in {BASELINE: (0.2, 0.3, None), OTHER: (0.6, 0.5, 0.4)}.items():
        made.trials[variant, 24] = {
            factor: record(f"{variant.name}-{factor}", value)
            for factor, value in zip((1 / 3, 1.0, 3.0), tried, strict=True)
        }
    return made
