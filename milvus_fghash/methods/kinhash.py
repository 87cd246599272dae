"""KinHash: the code with the highest expected utility; classes that look alike get near codes (this project).

A short code has too few bits to learn each by itself, so the head is a classifier, and the loss the cross entropy of
the photo and of the photo without its hottest pixels, as in FISH (`classified.py`). The posteriors p_k(x) =
softmax(class logits / T)_k and the +-1 codes h_k of the classes give each code an expected utility for the photo, and
the photo gets the best code.

Where few enough codes are possible, all are compared. The utility of a code q for class k is

    w_k(q) = AP_k(q) + A_k(q) ,   less its mean over classes,

A_k the share of bits in which q and h_k agree, and AP_k the average precision of a query q among photos that all have
their classes' codes, with k the right class: if L classes are nearer to q and s are as near as k, k itself among them,

    AP = 1/s [ 1 - L/s ln(1 + s/L) ] ,   1/s for L = 0

(the integral of x / (L + s x) over 0 < x < 1: a share x of the tied photos has been seen, of which one in s is right).
The photo's code has the highest sum_k p_k(x) w_k(q); logit j is the difference between the best code with bit j on and
the best with bit j off. A photo torn between two classes may get the code of neither, but one near both.

Of longer codes the one with the best sum_k p_k(x) A_k(q) needs no search: logit j is by how much the photo raises the
log odds that bit j is on,

    log [ sum_{k: h_kj = +1} p_k(x) / n_j+ ] - log [ sum_{k: h_kj = -1} p_k(x) / n_j- ] ,

where n_j+ and n_j- classes have the bit on and off. But for these counts, by which equal posteriors leave every bit
undecided (above, the mean over classes does the same), it is the sign of the expected code: every class votes on each
bit, weighted by its posterior. A photo that is surely of one class gets that class's code; one of an unseen class gets
a mixture of the codes of the classes it resembles. Nothing is left to quantise.

The codes are drawn far apart, so that the nearest two of 100 classes differ in 3 bits of 12, in 8 of 24. They are
assigned by similarity: classes whose photos have similar mean features get near codes (`place_by_similarity`). A
network mostly confuses a species with one that looks like it; photos of the right class then rank just behind those of
the wrong one.

T is the softmax temperature: how much class uncertainty the code keeps. With a low one every photo gets the code of its
likeliest class; with a high one photos no longer have the codes of their classes. Unless it is given, it is chosen on
training photos: during the first half of the rounds the loss leaves out a fifth of each class's photos (``held_out``).
Then several T are compared by two mAPs of the held-out photos as queries: against the photos trained on, and against
each other. Of values that are about as good the highest is taken, as its codes say most about classes that training has
not seen. The second half trains on all photos. Class logits grow meanwhile, so the ratio of T to their standard
deviation over the classes is kept. Where too few photos can be held out,

    T = min( max( bits / 24 , r ), 3 min( 1 , r ) ) ,   r = sqrt(100 / n_classes) .

The similarity of classes is that of the backbone's features at the start of training; with a randomly initialised
backbone it says little, and the codes are then assigned no better than at random. Only photos with one label each.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import Annotated, Any, Final

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor, nn

from milvus_fghash.methods.base import Backbone, Batch, Round, Sizes, generator
from milvus_fghash.methods.class_codes import (
    Codebook,
    class_means,
    class_similarity,
    draw_codes,
    place_by_similarity,
)
from milvus_fghash.methods.classified import IGNORED, ClassifiedConfig, ClassifiedMethod
from milvus_fghash.methods.heads import HashHead
from milvus_fghash.recipes.schema import Fraction, HeadChoice, Seed

FEW_CLASSES, MANY_BITS, HIGHEST = 100, 24, 3.0
"""With fewer classes or more bits than these, the default temperature is above 1, up to the last number."""
RATIOS: Final = tuple(2 ** (step / 2) for step in range(-8, 5))
"""The temperatures that are tried, as multiples of the standard deviation of the class logits."""
CHOSEN_AFTER: Final = 0.5
"""Share of the rounds after which the temperature is chosen."""
AS_GOOD: Final = 0.003
"""Temperatures whose quality is less than this below the best count as equally good."""
LEAST_HELD_OUT: Final = 50
"""With fewer held-out photos the temperature is the default."""
MOST_PHOTOS: Final = 5_000
"""Whole classes are left out of the choice of the temperature until no more photos than these remain."""
NEVER = -1e30
"""Stands for the logarithm of 0: the gradient of minus infinity would not be a number."""


class Config(ClassifiedConfig):
    codebook: Codebook = "far-apart"
    """Codebook of the class codes."""
    placed: bool = True
    """Whether similar classes get near codes; if not, codes are assigned in the order in which they were drawn."""
    most_weighed: Annotated[int, Field(ge=0, le=2**26)] = 3_000_000
    """Largest number of possible codes times classes for which all codes are compared: the size of the table that the
    network then holds, and its multiply-adds (3 million: a hundredth of MobileNetV2's at 224 px). 0: never."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """T; None: chosen on held-out photos. Towards 0 every photo gets the code of its most likely class."""
    held_out: Fraction = 0.2
    """Share of each class's photos on which T is chosen; 0: `default_temperature`."""
    seed: Seed = 0
    """Seed of the codes, of their assignment and of the held-out photos."""


def default_temperature(n_classes: int, n_bits: int) -> float:
    """T where none is given and too few photos can be held out."""
    ratio = math.sqrt(FEW_CLASSES / n_classes)
    return min(max(n_bits / MANY_BITS, ratio), HIGHEST * min(1.0, ratio))


def former_temperature(n_classes: int, n_bits: int) -> float:
    """The default of checkpoints that do not hold their temperature."""
    return max(n_bits / MANY_BITS, math.sqrt(FEW_CLASSES / n_classes))


def held_out_photos(labels: Tensor, share: float, seed: int) -> Tensor:
    """A random share of each class, rounded down, but at least one photo of three or more; (n,) -> (n,) bool."""
    order = torch.randperm(len(labels), generator=generator(seed)).to(labels.device)
    order = order[labels[order].argsort(stable=True)]  # by class, and in random order within it
    sizes = torch.bincount(labels)
    places = torch.arange(len(labels), device=labels.device) - (sizes.cumsum(0) - sizes)[labels[order]]
    taken = (share * sizes).long().clamp(min=1).where((sizes > 2) & (share > 0), 0)
    chosen = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    chosen[order] = places < taken[labels[order]]
    return chosen


def precision_of_ranking(queries: Tensor, labels: Tensor, gallery: Tensor, gallery_labels: Tensor) -> float:
    """mAP of codes, signs (n, n_bits) and (m, n_bits), with ties broken at random; NaN where nothing can be found.

    A photo at the same place in both, when they are the same tensor, is not compared with itself.
    """
    total, counted = 0.0, 0
    lots = torch.rand(len(gallery), generator=generator(0)).to(gallery)
    for start in range(0, len(queries), 500):
        block = slice(start, start + 500)
        nearness = queries[block] @ gallery.T + lots
        relevant = labels[block, None] == gallery_labels
        if queries is gallery:
            own = torch.arange(len(nearness), device=gallery.device)
            nearness[own, own + start], relevant[own, own + start] = -torch.inf, False
        ranked = relevant.gather(1, nearness.argsort(dim=1, descending=True)).float()
        ranks = torch.arange(1, ranked.shape[1] + 1, device=gallery.device)
        found = ranked.sum(dim=1)
        precisions = (ranked * ranked.cumsum(dim=1) / ranks).sum(dim=1) / found.clamp(min=1)
        total, counted = total + float(precisions.sum()), counted + int((found > 0).sum())
    return total / counted if counted else math.nan


def code_utility(codes: Tensor) -> Tensor:
    """Utility w_k(q) of every possible code for every class: codes (n_classes, n_bits) -> (n_classes, 2**n_bits).

    Codes are in the order of their bits read as a number, the first bit being the highest.
    """
    n_bits = codes.shape[1]
    possible = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], device=codes.device)] * n_bits).view(-1, n_bits)
    agreeing = (n_bits + codes @ possible.T) / 2
    distances = n_bits - agreeing.long()
    classes_at = torch.zeros(n_bits + 1, 2**n_bits, dtype=codes.dtype, device=codes.device)
    classes_at.scatter_add_(0, distances, torch.ones_like(agreeing))
    nearer = (classes_at.cumsum(dim=0) - classes_at).gather(0, distances)
    as_near = classes_at.gather(0, distances)
    lost = nearer / as_near * torch.log1p(as_near / nearer.clamp(min=1))
    gain = (1 - lost) / as_near + agreeing / n_bits
    # Ties between equally good codes are broken at random here: rounding would break them otherwise in each runtime.
    lots = 1e-4 * torch.rand(2**n_bits, generator=generator(0)).to(gain)
    shared = (codes == codes[0]).all(dim=0)  # a bit that all classes share carries no information, and is kept
    theirs = 1e-3 * (possible[:, shared] == codes[0, shared]).sum(dim=1)
    return gain - gain.mean(dim=0) + lots + theirs


def bit_margins(class_logits: Tensor, utility: Tensor, temperature: float | Tensor) -> Tensor:
    """Expected utility of the best code with a bit on, less that with it off: (b, n_classes) -> (b, n_bits)."""
    expected = F.softmax(class_logits / temperature, dim=1) @ utility
    n_bits = utility.shape[1].bit_length() - 1
    best = [expected.view(-1, 2**bit, 2, 2 ** (n_bits - 1 - bit)).amax(dim=(1, 3)) for bit in range(n_bits)]
    return torch.stack([of_bit[:, 1] - of_bit[:, 0] for of_bit in best], dim=1)


def bit_log_odds(class_logits: Tensor, codes: Tensor, temperature: float | Tensor) -> Tensor:
    """The log odds above; class logits (b, n_classes) and codes (n_classes, n_bits) -> (b, n_bits).

    The odds end at 1e30. A bit that all classes share carries no information, and is kept.
    """
    posteriors = F.softmax(class_logits / temperature, dim=1)
    on, off = (posteriors @ _shares(side.to(class_logits.dtype)) for side in (codes > 0, codes < 0))
    return torch.log(on + 1e-30) - torch.log(off + 1e-30)


def unbounded_log_odds(class_logits: Tensor, codes: Tensor, temperature: float | Tensor) -> Tensor:
    """The log odds above without a bound: however certain the class, they still grow and have gradients.

    A bit that all classes share gives 0.
    """
    log_posteriors = F.log_softmax(class_logits / temperature, dim=1)[:, :, None]
    on, off = (
        torch.logsumexp(log_posteriors + _shares(side.to(class_logits.dtype)).log().clamp(min=NEVER), dim=1)
        for side in (codes > 0, codes < 0)
    )
    return (on - off).masked_fill((codes == codes[0]).all(dim=0), 0.0)


def _shares(members: Tensor) -> Tensor:
    """Of each bit, 1 / n for the n classes that have it so, 0 for the others; (n_classes, n_bits) of 1 and 0."""
    return members / members.sum(dim=0).clamp(min=1)


def spread(class_logits: Tensor) -> float:
    """Standard deviation over the classes, (n, n_classes) -> its mean over photos."""
    return float(class_logits.std(dim=1, correction=0).mean())


class ClassifiedHead(nn.Module):
    """Features -> class logits -> logits of the bits."""

    codes: Tensor
    """(n_classes, n_bits) signs."""
    code_utility: Tensor
    """`code_utility` of them; empty where not all codes are weighed."""
    temperature: Tensor
    """T, a number."""
    ratio: Tensor
    """T over the standard deviation of the class logits, a number; 0 until T is chosen."""

    def __init__(self, choice: HeadChoice, n_features: int, codes: Tensor, config: Config) -> None:
        super().__init__()
        n_classes, n_bits = codes.shape
        self.classes = HashHead(choice, n_features, n_classes)
        self.weighing = n_classes * 2**n_bits <= config.most_weighed
        self.former_temperature = config.temperature or former_temperature(n_classes, n_bits)
        self.register_buffer("codes", codes)
        self.set_temperature(config.temperature or default_temperature(n_classes, n_bits), 0.0)
        self.register_buffer("code_utility", torch.empty(0))
        self.assign_codes(codes)

    def assign_codes(self, codes: Tensor) -> None:
        """Set the code of each class, (n_classes, n_bits)."""
        self.codes.copy_(codes)
        if self.weighing:
            self.code_utility = code_utility(self.codes)

    def set_temperature(self, temperature: float, ratio: float, *, kept: bool = True) -> None:
        """``kept``: whether checkpoints hold both numbers."""
        self.register_buffer("temperature", torch.tensor(temperature, device=self.codes.device), persistent=kept)
        self.register_buffer("ratio", torch.tensor(ratio, device=self.codes.device), persistent=kept)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        if f"{prefix}temperature" in state_dict:
            self.set_temperature(float(self.temperature), float(self.ratio))
        else:  # from before it was chosen; the fingerprint must stay as it was
            self.set_temperature(self.former_temperature, 0.0, kept=False)
        super()._load_from_state_dict(state_dict, prefix, *others)

    def forward(self, features: Tensor) -> Tensor:
        return self.bit_logits(self.classes(features).float())

    def bit_logits(self, class_logits: Tensor) -> Tensor:
        """(b, n_classes) -> (b, n_bits)."""
        if self.weighing:
            return bit_margins(class_logits, self.code_utility, self.temperature)
        return bit_log_odds(class_logits, self.codes, self.temperature)

    def bit_scores(self, features: Tensor) -> Tensor:
        """`unbounded_log_odds`, also where all codes are compared: utilities saturate for a certain class."""
        return unbounded_log_odds(self.classes(features).float(), self.codes, self.temperature)


class Method(ClassifiedMethod):
    learned_source = "class codes"
    bit_scores_name = "log odds"

    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, sizes, config)
        self.config = config
        self.wants_features = head.standardise or config.placed
        codes = draw_codes(config.codebook, sizes.n_classes, sizes.n_bits, config.seed)
        self.head: ClassifiedHead = ClassifiedHead(head, backbone.n_features, codes, config)

    def fit(self, features: Tensor, labels: Tensor) -> None:
        self.head.classes.fit(features)
        if self.config.placed:
            similarity = class_similarity(class_means(features, labels, self.sizes.n_classes))
            placed = place_by_similarity(self.head.codes, similarity, self.config.seed, progress=self.report)
            self.head.assign_codes(placed)

    def bit_scores(self, features: Tensor) -> Tensor:
        return self.head.bit_scores(features)

    def before_round(self, at: Round) -> None:
        chooses = self.config.temperature is None and self.config.held_out > 0
        self.held_out = held_out_photos(at.labels, self.config.held_out if chooses else 0.0, self.config.seed)
        first, n_held_out = int(CHOSEN_AFTER * at.rounds), int(self.held_out.sum())
        if not first or n_held_out < LEAST_HELD_OUT:
            self.held_out[:] = False
        elif at.number >= first:
            if at.number == first:
                self.choose_temperature(at.centre_crop_features(), at.labels)
            self.held_out[:] = False

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        labels = batch.labels.where(~self.held_out[batch.rows], IGNORED)
        return self.classified(self.head.classes, replace(batch, labels=labels))[1]

    def after_round(self, at: Round) -> None:
        ratio = float(self.head.ratio)
        if ratio and at.number == at.rounds - 1:
            self.head.set_temperature(ratio * spread(self.class_logits(at.centre_crop_features())), ratio)

    def choose_temperature(self, features: Tensor, labels: Tensor) -> None:
        """Set T by (n_train, n_features) centre-crop features and class numbers, (n_train,); see above."""
        classes = torch.randperm(self.sizes.n_classes, generator=generator(self.config.seed)).to(labels.device)
        photos = torch.bincount(labels, minlength=self.sizes.n_classes)[classes].cumsum(0)
        rows = torch.isin(labels, classes[: max(2, int((photos <= MOST_PHOTOS).sum()))]).nonzero()[:, 0]
        labels, held_out = labels[rows], self.held_out[rows]
        logits = self.class_logits(features[rows.cpu()])
        unit = spread(logits[~held_out])
        qualities = []
        for ratio in RATIOS:
            self.head.set_temperature(ratio * unit, ratio)
            codes = torch.cat(
                [torch.where(self.head.bit_logits(part) > 0, 1.0, -1.0) for part in torch.split(logits, 256)]
            )
            queries, trained = codes[held_out], codes[~held_out]
            galleries = (trained, labels[~held_out]), (queries, labels[held_out])
            values = [precision_of_ranking(queries, labels[held_out], *gallery) for gallery in galleries]
            qualities.append(statistics.fmean(value for value in values if not math.isnan(value)))
        ratio = max(at for at, value in zip(RATIOS, qualities, strict=True) if value > max(qualities) - AS_GOOD)
        self.head.set_temperature(ratio * unit, ratio)

    @torch.no_grad()
    def class_logits(self, features: Tensor) -> Tensor:
        """(n, n_features) -> (n, n_classes), in evaluation mode."""
        classes = self.head.classes
        training, device = classes.training, self.head.codes.device
        classes.eval()
        logits = torch.cat([classes(part.to(device)).float() for part in torch.split(features, 1024)])
        classes.train(training)
        return logits

    def learned_codes(self, labels: Tensor) -> Tensor:
        return self.head.codes[labels]
