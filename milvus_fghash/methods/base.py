"""The interface of all methods.

A method is a backbone and a head. The loop trains it in *rounds*: rows are drawn, a few epochs run over them, and the
method solves what is not learned by gradient. The features of a frozen backbone are cached, so a method never calls its
backbone inside `loss`: `embed` does, and `loss` sees only its results.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from milvus_fghash.core.callbacks import StageProgress
from milvus_fghash.core.labels import number_labels


class Backbone(nn.Module, ABC):
    """The network below a method: normalised photos -> maps -> pooled features."""

    n_features: int
    mean: tuple[float, float, float]
    """Mean per channel of RGB pixels in [0, 1]; ``std`` is their deviation."""
    std: tuple[float, float, float]
    side: int | None = None
    """Side of the photos that it takes, in pixels; None: any."""
    licence: str = "unknown"
    """Licence of the weights."""
    stage_widths: tuple[int, int, int, int]
    """Channels of the maps of each stage; the last is ``n_features``."""
    computed_once: ClassVar[str] = "maps"
    """The method that `maps` and `forward` share, which an exported graph contains once."""

    @property
    def stage_outputs(self) -> Sequence[nn.Module]:
        """The modules whose outputs are the maps of each stage, in order; none if the backbone has no stages."""
        return ()

    @abstractmethod
    def maps(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) normalised -> (b, n_features, h/32, w/32), the last stage before pooling."""

    def stage_maps(self, images: Tensor, n_stages: int = 4) -> list[Tensor]:
        """(b, 3, h, w) normalised -> maps of the first stages, at strides 4, 8, 16 and 32; the fourth's as `maps`.

        A backbone without stages has neither this nor `copy_last_stage`; methods that work on maps need both.
        """
        raise NotImplementedError(f"{type(self).__name__} has no stages")

    def copy_last_stage(self, *, stride: int = 2) -> nn.Module:
        """The last stage, for maps of the third, with weights of its own; ``stride=1`` keeps the size of its input."""
        raise NotImplementedError(f"{type(self).__name__} has no stages")

    def pool(self, maps: Tensor) -> Tensor:
        """Maps of the last stage -> (b, n_features)."""
        return maps.mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) normalised -> (b, n_features) pooled."""
        return self.pool(self.maps(images))

    def maps_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(b, 3, h, w) normalised -> `maps` and the pooled features, computed together."""
        maps = self.maps(images)
        return maps, self.pool(maps)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 photos (b, 3, h, w) -> normalised float32 on the same device."""
        mean = torch.tensor(self.mean, device=pixels.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(1, 3, 1, 1)
        return (pixels.float() / 255 - mean) / std


@dataclass(frozen=True)
class Sizes:
    """The sizes from which a method allocates its parameters."""

    n_bits: int
    n_classes: int
    n_train: int
    n_unlabelled: int = 0
    """Training photos without a class, among ``n_train``; their label is -1."""
    label_sets: Tensor | None = None
    """(n_label_sets, n_classes) bool, the distinct label sets of training photos that can have several labels; labels
    are then numbers of these. None: each photo has one class, and labels are class numbers."""

    @classmethod
    def of(cls, n_bits: int, labels: Sequence[str], classes: Sequence[str]) -> Sizes:
        """For the labels of a training set, (n_train,), "" for a photo without a class, and the classes in them."""
        sets = number_labels(labels, classes)[1]
        label_sets = None if sets is None else torch.from_numpy(sets)
        return cls(n_bits, len(classes), len(labels), labels.count(""), label_sets)

    @property
    def n_labels(self) -> int:
        """Number of different labels: of label sets, or else of classes."""
        return self.n_classes if self.label_sets is None else len(self.label_sets)


@dataclass(frozen=True)
class Batch:
    """Input of one training step."""

    rows: Tensor
    """(b,) int64, positions of the photos in the training set."""
    labels: Tensor
    """(b,) int64, class numbers, or numbers of `Sizes.label_sets` (whose rows ``label_sets[labels]`` are their
    classes)."""
    features: dict[str, Tensor]
    """Name -> (b, ...), as `embed` returned it; "anchor" and, if the method wants it, "positive": (b, n_features)."""


@dataclass(frozen=True)
class Round:
    """One round of the loop, as a method sees it."""

    number: int
    """Counted from 0."""
    rounds: int
    """Total number of rounds."""
    rows: Tensor
    """(m,) int64, positions of the photos drawn for the round, all different."""
    labels: Tensor
    """(n_train,) int64, labels of the whole training set, numbers as in `Batch`."""
    centre_crop_features: Callable[[], Tensor]
    """Returns `features` of the centre crops of the whole training set, in evaluation mode and without gradient,
    (n_train, n_features). It is a pass over all photos unless the backbone is frozen."""


class BitSource(NamedTuple):
    """An output of a classifier inside a head: the probability of a class, or of a cluster of unlabelled photos."""

    kind: Literal["class", "cluster"]
    number: int
    """Of the class in the training set, or of the cluster in its classifier; counted from 0."""
    classifier: int
    """Number of the classifier, where a head has several; counted from 0."""


@dataclass(frozen=True)
class BitSources:
    """What moves the bits of a head that computes them from class probabilities. Used only for explanations."""

    sources: tuple[BitSource, ...]
    pushes: Tensor
    """(n_bits, n_sources): how much higher the bit score of a photo is that is certainly of this class or cluster, for
    this classifier, than that of the average photo."""


class HashMethod(nn.Module, ABC):
    """Images -> logits, whose signs are the code. Only `forward` is exported."""

    wants_positives: bool = False
    """Whether the loop adds, for each photo, the features of another photo of its class, named "positive"."""
    wants_features: bool = False
    """Whether `fit` is called."""
    wants_views: bool = True
    """Whether training uses augmented views; if not, only centre crops are cached for a frozen backbone."""
    bits_come_last: bool = False
    """Whether the code length changes only what the last `after_round` fits: one training serves all lengths."""
    features_key: str = "pooled"
    """Identifies `features` and its options in the feature cache."""
    embedding_key: str = "anchor"
    """Identifies `embed` and its options in the feature cache."""
    bit_scores_name: str = "logits"
    """Name of the `bit_scores` for people, in the plural."""
    learned_source: str = "V"
    """Origin of `learned_codes`: "V" (SDH: "B"), solved for each training photo, or "class codes"."""

    backbone: Backbone
    head: nn.Module

    def __init__(self, backbone: Backbone, sizes: Sizes) -> None:
        super().__init__()
        self.backbone = backbone
        self.sizes = sizes
        self.report: StageProgress = lambda done, total, what: None
        """Called by a `fit` that takes long."""

    def features(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) normalised -> (b, n_features), input of the head; some methods add to the backbone's."""
        features: Tensor = self.backbone(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) normalised -> (b, n_bits)."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def bit_scores(self, features: Tensor) -> Tensor:
        """`features` (b, n_features) -> how strongly each bit is on, (b, n_bits). Used only for explanations.

        These are the logits, unless they saturate where a method is certain: such logits have no gradients, and put
        photos in no order. The logits alone decide the code; a bit score may have the opposite sign.
        """
        logits: Tensor = self.head(features)
        return logits

    def bit_sources(self) -> BitSources | None:
        """The classes and clusters that move the bits; None for a method that has none. See `source_activities`."""
        return None

    def source_activities(self, features: Tensor) -> Tensor:
        """`features` (b, n_features) -> how active each of the `bit_sources` is, (b, n_sources): its probability."""
        raise NotImplementedError(f"{type(self).__name__} has no bit sources")

    def embed(self, images: Tensor) -> dict[str, Tensor]:
        """What a training step needs of the photos: "anchor" (`features`), and what the method derives from them."""
        return {"anchor": self.features(images)}

    def attentions(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) -> (b, k, h', w') attention maps, one for each part.

        For a method without its own attention, the channel mean of the last maps (FCAENet eq. 3).
        """
        return self.backbone.maps(images).mean(dim=1, keepdim=True)

    def fit(self, features: Tensor, labels: Tensor) -> None:
        """Called once before the rounds with the centre-crop features, (n_train, n_features), if ``wants_features``."""

    def before_round(self, at: Round) -> None:
        """Called after the photos of a round are drawn."""

    @abstractmethod
    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Named terms of the loss; the loop adds them up and logs each under its name. Empty: nothing to train."""

    def after_round(self, at: Round) -> None:
        """Called at the end of a round, to solve what is not learned by gradient."""

    def learned_codes(self, labels: Tensor) -> Tensor | None:
        """Codes of the training photos that were optimised with their labels, one for each photo or for each class.

        Args:
            labels: (n_train,) labels of the training photos, numbers as in `Batch`.

        Returns:
            (n_train, n_bits) signs; None if the method has none.
        """
        return None


class LearnsNothing(HashMethod):
    """A method without gradient training: everything is done in `fit`."""

    wants_features = True
    wants_views = False

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return {}


def derive_seed(*parts: int) -> int:
    """One seed from several numbers (seed, round, epoch, row ...), the same on every machine, unlike `hash`.

    >>> derive_seed(0, 1) != derive_seed(1, 0)
    True
    """
    state = 0x9E3779B97F4A7C15
    for part in parts:  # splitmix64
        state = (state ^ part) + 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1


def generator(*parts: int) -> torch.Generator:
    """A CPU generator seeded from several numbers."""
    return torch.Generator().manual_seed(derive_seed(*parts))
