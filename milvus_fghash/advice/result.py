"""`Advice`, the result of `advise`: what there is, what was measured, and what is recommended."""

from __future__ import annotations

from typing import Final

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.evaluation.quality import Quality

LENGTHS: Final = (128, 64, 256, 48, 32)
"""Code lengths, the most informative first."""
NO_CLASSES: Final = "floats"
"""Stands for a protocol where no photo has a class: codes are compared with the floats."""


class Survey(Frozen):
    """What photos there are.

    Attributes:
        photos, classes, without_class: of the whole dataset.
        class_sizes: smallest, median and largest number of photos of a class; (0, 0, 0) without classes.
        sampled, sampled_classes: photos that are measured on, and their classes.
        unreadable: photos that were looked at and cannot be decoded; they are left out.
        copies: photos that were looked at and are copies of another one, by perceptual hash; they are left out.
    """

    photos: int
    classes: int
    without_class: int
    class_sizes: tuple[int, int, int]
    sampled: int
    sampled_classes: int
    unreadable: int
    copies: int


class Cell(Frozen):
    """One method at one code length under one protocol.

    Attributes:
        method, bits: hash method and code length.
        protocol: key of `PROTOCOLS`; "floats" where no photo has a class.
        quality: mAP, precision and reach; None where no photo has a class.
        neighbours: expected share of the floats' 10 nearest photos among the 10 nearest by codes.
        fit_seconds: time of the fit, without features; of lengths that share a training, the first one has its time.
        search_milliseconds: time of comparing one code with a million others.
    """

    method: str
    bits: int
    protocol: str
    quality: Quality | None
    neighbours: float
    fit_seconds: float
    search_milliseconds: float

    @property
    def score(self) -> float:
        """By what cells of one protocol are compared: the mean of mAP and P@1, or the share of neighbours."""
        return (self.quality.map + self.quality.precision_at_1) / 2 if self.quality else self.neighbours


class Recommendation(Frozen):
    """The cell that is recommended.

    Attributes:
        method, bits, protocol: as in `Cell`.
        figure: "mAP", or "neighbours" where no photo has a class.
        value, low, high: the figure, and the 90 % interval of a later one of as many photos of the same kind.
        trainings: how many of them ``value`` is the mean of.
        sentence: the recommendation in words.
        recipe, changes: what `train` takes to train it as it was measured, on all photos.
    """

    method: str
    bits: int
    protocol: str
    figure: str
    value: float
    low: float
    high: float
    trainings: int
    sentence: str
    recipe: str
    changes: tuple[str, ...]


class Hits(Frozen):
    """The nearest photos of one query, by floats and by codes.

    Attributes:
        query, label: path of the query, and its class ("" without one).
        by_floats, by_codes: path and class of each, the nearest first.
    """

    query: str
    label: str
    by_floats: tuple[tuple[str, str], ...]
    by_codes: tuple[tuple[str, str], ...]


class Advice(Frozen):
    """What `advise` found.

    Attributes:
        survey: what photos there are.
        encoder: name of the backbone.
        views: augmented views a photo, besides the centre crop, with which methods were trained.
        encode_milliseconds: time of one photo's features, decoding included; None if all were in the cache.
        query_split: the splits whose photos are measured on; "": a third of all photos, in turn.
        floats: protocol -> quality of the encoder's own features.
        float_bytes: bytes of one photo's features.
        cells: what was measured.
        left_out: what was not measured, "REASON: METHOD PROTOCOL at LENGTHS bits, ..." each; without lengths, all.
        recommendation: the cell that fits.
        differences: queries whose nearest photos differ most between floats and the recommended codes.
        seconds: time of everything.
    """

    survey: Survey
    encoder: str
    views: int
    encode_milliseconds: float | None
    query_split: str
    floats: dict[str, Quality]
    float_bytes: int
    cells: tuple[Cell, ...]
    left_out: tuple[str, ...]
    recommendation: Recommendation
    differences: tuple[Hits, ...]
    seconds: float
