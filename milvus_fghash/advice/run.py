"""The measurements within the time: cell after cell of a plan, then the recommended one again for its interval."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from milvus_fghash.advice.interval import later_interval
from milvus_fghash.advice.measure import FOLDS, Catalog, Measured, Trial, figure_variance, quality_of
from milvus_fghash.advice.result import LENGTHS, NO_CLASSES, Cell
from milvus_fghash.advice.tables import title_of
from milvus_fghash.core.callbacks import StageProgress
from milvus_fghash.errors import DataError
from milvus_fghash.evaluation.quality import Quality
from milvus_fghash.methods import ON_FEATURES_ALONE
from milvus_fghash.methods.base import Backbone
from milvus_fghash.recipes.loader import compose
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.draws import with_seed

SETTING: Final = "frozen"
ITQ: Final = "itq"
FLAGSHIP: Final = "posterior-itq"
KINHASH: Final = "kinhash"
PLAN: Final = (
    *((method, protocol, bits) for bits in LENGTHS for protocol in "BC" for method in (ITQ, FLAGSHIP)),
    *((FLAGSHIP, "D", bits) for bits in LENGTHS),
    *((KINHASH, protocol, bits) for bits in (48, 32) for protocol in "BC"),
)
"""Method, protocol and length, the most informative first. ITQ uses no labels: it has the codes of B in D."""
PLAN_WITHOUT_CLASSES: Final = tuple((method, NO_CLASSES, bits) for bits in LENGTHS for method in (ITQ, FLAGSHIP))
ALWAYS: Final = 2
"""Cells at the head of a plan that are measured even where the time is too short."""
FIRST: Final = {ITQ: 0.1, FLAGSHIP: 1.0, KINHASH: 1.5}
"""Time of a first fit relative to the flagship's, until the method itself is measured."""
FURTHER_SHARE: Final = 0.5
"""Share of the first fit that a further length takes where it shares the training, until that is measured."""
RESERVED: Final = 0.15
"""Share of the time that is kept for the interval, at most one training of the flagship."""
NO_TIME: Final = "no time for"
CLOSE_TO_BEST: Final = 0.02
"""A shorter code is recommended where its score is at most this much below the best one."""
REPEATS: Final = 2
"""Further trainings of the recommended cell, as time allows, for its interval."""


@dataclass(frozen=True)
class Clock:
    """How much of the time is left.

    Attributes:
        started: in seconds of `time.perf_counter`.
        seconds: the whole time.
    """

    started: float
    seconds: float

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def allows(self, seconds: float) -> bool:
        return self.elapsed + seconds <= self.seconds


@dataclass
class Run:
    """The measurements of a catalog.

    Attributes:
        catalog, backbone: photos and their encoder.
        changes: of the recipes: those of the encoder.
        seed: of the trainings.
        clock: of everything.
        progress: called with zeros, since nothing is counted, and what is being measured.
        cells, measured, floats: what was measured; the floats by protocol.
    """

    catalog: Catalog
    backbone: Backbone
    changes: tuple[str, ...]
    seed: int
    clock: Clock
    progress: StageProgress
    cells: list[Cell] = field(default_factory=list)
    measured: dict[tuple[str, int, str], Measured] = field(default_factory=dict)
    floats: dict[str, Quality] = field(default_factory=dict)
    _left_out: dict[tuple[str, str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    _trials: dict[tuple[str, str], Trial] = field(default_factory=dict)
    _took: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """Method and protocol -> seconds of each length, in their order."""

    def recipe(self, method: str, seed: int) -> Recipe:
        return with_seed(compose(SETTING, method, (*self.changes, *ON_FEATURES_ALONE.get(method, ()))), seed)

    def fill(self) -> None:
        """Measure the plan, as far as time and classes allow; its first cells always."""
        plan = PLAN if self.catalog.has_classes else PLAN_WITHOUT_CLASSES
        for number, (method, protocol, bits) in enumerate(plan):
            reserve = min(RESERVED * self.clock.seconds, self._seconds_of(FLAGSHIP, "B"))
            if number >= ALWAYS and not self.clock.allows(self._seconds_of(method, protocol) + reserve):
                self._left_out[method, protocol, NO_TIME].append(bits)
                continue
            self.progress(0, 0, f"{method} at {bits} bits, {title_of(protocol)}")
            try:
                self._measure(method, protocol, bits)
            except DataError as error:
                if number < ALWAYS:
                    raise
                self._left_out[method, protocol, str(error)].append(bits)
        if self.catalog.has_classes:
            self.floats.setdefault("D", self.floats["B"])

    @property
    def left_out(self) -> tuple[str, ...]:
        """See `Advice.left_out`."""
        found: dict[str, list[str]] = defaultdict(list)
        for (method, protocol, why), bits in self._left_out.items():
            some = f" at {', '.join(map(str, bits))} bits" if (method, protocol) in self._took else ""
            found[why].append(f"{method} {protocol}{some}")
        return tuple(f"{why}: {', '.join(names)}" for why, names in found.items())

    def _measure(self, method: str, protocol: str, bits: int) -> None:
        started = time.perf_counter()
        if protocol not in self.floats and self.catalog.has_classes:
            self.floats[protocol] = quality_of(self.catalog, self.catalog.parts(protocol, 0), None)
        key = method, protocol
        if key not in self._trials:
            self._trials[key] = Trial(self.catalog, self.recipe(method, self.seed), protocol, self.backbone)
        one = self._trials[key].at(bits)
        self._add(one)
        if key == (ITQ, "B"):
            self._add(Measured(one.cell.model_copy(update={"protocol": "D"}), one.parts, one.codes))
        self._took.setdefault(key, []).append(time.perf_counter() - started)

    def _add(self, one: Measured) -> None:
        self.cells.append(one.cell)
        self.measured[one.cell.method, one.cell.bits, one.cell.protocol] = one

    def _seconds_of(self, method: str, protocol: str) -> float:
        """What the next length of a method will about take."""
        own = self._took.get((method, protocol), [])
        if len(own) > 1 or (own and method == KINHASH):
            return own[-1]
        if own:
            return FURTHER_SHARE * own[0]
        firsts = [seconds[0] for (name, _), seconds in self._took.items() if name == method]
        if firsts:
            return max(firsts)
        of_flagship = [seconds[0] for (name, _), seconds in self._took.items() if name == FLAGSHIP]
        return FIRST[method] * max(of_flagship, default=0.0)

    def interval(self, chosen: Cell) -> tuple[float, float, float, int]:
        """The figure's mean over trainings, the ends of its interval, and the number of trainings."""
        found = [self.measured[chosen.method, chosen.bits, chosen.protocol]]
        for number in range(1, 1 + REPEATS):
            if not self.clock.allows(self._took[chosen.method, chosen.protocol][0]):
                break
            self.progress(0, 0, f"{chosen.method} at {chosen.bits} bits again, for the interval")
            recipe = self.recipe(chosen.method, self.seed + number)
            fold = 0 if self.catalog.has_splits else number % FOLDS
            found.append(Trial(self.catalog, recipe, chosen.protocol, self.backbone, fold).at(chosen.bits))
        figures = [one.cell.quality.map if one.cell.quality else one.cell.neighbours for one in found]
        variances = [figure_variance(self.catalog, one) for one in found]
        return *later_interval(figures, variances, separate=not self.catalog.has_splits), len(found)


def recommended(cells: Sequence[Cell]) -> Cell:
    """The shortest code close to the best, by the mean of scores on new photos and new classes; its cell of new photos.

    New classes count if the method that is best on new photos was measured on them at some length; then only lengths
    that were measured on both are compared. A method is not preferred because another one had no time.
    """
    scores: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for cell in cells:
        if cell.protocol in ("B", "C", NO_CLASSES):
            scores[cell.method, cell.bits][cell.protocol] = cell.score
    new_photos = NO_CLASSES if any(NO_CLASSES in of for of in scores.values()) else "B"
    leader = max((of[new_photos], method) for (method, _), of in scores.items() if new_photos in of)[1]
    counted = {protocol for (method, _), of in scores.items() if method == leader for protocol in of}
    mean = {key: sum(of[one] for one in counted) / len(counted) for key, of in scores.items() if counted <= of.keys()}
    best = max(mean.values())
    close = [key for key, score in mean.items() if score >= best - CLOSE_TO_BEST]
    chosen = min(close, key=lambda key: (key[1], -mean[key]))
    return next(cell for cell in cells if (cell.method, cell.bits, cell.protocol) == (*chosen, new_photos))
