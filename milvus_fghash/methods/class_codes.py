"""One code for each class: drawing the codes, their distances, and assigning them to classes.

Codes are float32 signs (n_classes, n_bits), all different, and determined by a seed. A code with fewer wrong bits than
half the minimal distance is still nearest to the right class, so codes are drawn far apart; and as no network is always
right, `place_by_similarity` gives near codes to classes that look alike.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from numpy.typing import NDArray
from torch import Tensor

from milvus_fghash.core.callbacks import StageProgress
from milvus_fghash.errors import DataError
from milvus_fghash.methods.base import Backbone, HashMethod, Sizes, generator
from milvus_fghash.methods.heads import HashHead
from milvus_fghash.recipes.schema import HeadChoice

Floats = NDArray[np.floating[Any]]
Codebook = Literal["hadamard", "balanced", "bernoulli", "far-apart"]

MANY_CLASSES: Final = 500
"""More than these are placed from one start, in single precision, within the two limits below."""
MOST_SWEEPS: Final = 12
"""Visits of a class."""
MOST_WORK: Final = 100_000_000_000
"""Visits times classes times bits: two or three minutes on one core."""


def draw_codes(kind: Codebook, n_classes: int, n_bits: int, seed: int) -> Tensor:
    """Codes of a named codebook; `hadamard` falls back to `balanced` where a Hadamard matrix has too few rows.

    Raises:
        DataError: when there are more classes than codes in the codebook.
    """
    if kind == "hadamard" and n_bits & (n_bits - 1) == 0 and n_classes <= 2 * n_bits:
        return hadamard_codes(n_classes, n_bits)
    if kind == "bernoulli":
        return bernoulli_codes(n_classes, n_bits, seed)
    if kind == "far-apart":
        return far_apart_codes(n_classes, n_bits, seed)
    return balanced_codes(n_classes, n_bits, seed)


def hadamard_codes(n_classes: int, n_bits: int) -> Tensor:
    """The rows of Sylvester's Hadamard matrix, then their opposites: any two differ in half the bits, or in all.

    Raises:
        DataError: when ``n_bits`` is no power of two, or there are more than 2 ``n_bits`` classes.
    """
    if n_bits & (n_bits - 1) or n_classes > 2 * n_bits:
        raise DataError(
            f"no Hadamard codes of {n_bits} bits for {n_classes} classes: the length must be a power of two, "
            f"and gives 2 x {n_bits} codes. Use another codebook"
        )
    rows = torch.ones(1, 1)
    while len(rows) < n_bits:
        rows = torch.cat([torch.cat([rows, rows], dim=1), torch.cat([rows, -rows], dim=1)])
    return torch.cat([rows, -rows])[:n_classes]


def balanced_codes(n_classes: int, n_bits: int, seed: int, tries: int = 500) -> Tensor:
    """Random codes with n_bits // 2 bits of +1, drawn one after the other (CSQ).

    Each differs from all before it in more than a quarter of the bits. If none of ``tries`` draws does, the farthest of
    them is taken, so distances are smaller when there are many classes for the bits.

    Raises:
        DataError: when there are more classes than balanced codes.
    """
    _check_enough(n_classes, n_bits, math.comb(n_bits, n_bits // 2))
    random = generator(seed)
    codes = torch.empty(0, n_bits)
    while len(codes) < n_classes:
        order = torch.rand(tries, n_bits, generator=random).argsort(dim=1)
        drawn = torch.where(order < n_bits // 2, 1.0, -1.0)
        nearest = _distances(drawn, codes).amin(dim=1) if len(codes) else torch.full((tries,), n_bits)
        far = (nearest > n_bits / 4).nonzero()
        chosen = int(far[0] if len(far) else nearest.argmax())
        if nearest[chosen] > 0:  # else all of them are taken: draw again
            codes = torch.cat([codes, drawn[chosen : chosen + 1]])
    return codes


def bernoulli_codes(n_classes: int, n_bits: int, seed: int) -> Tensor:
    """Distinct codes of fair random bits (OrthoHash).

    Independent draws would collide for short codes: of 200 classes at 12 bits, about five pairs would share a code.

    Raises:
        DataError: when there are more classes than codes.
    """
    _check_enough(n_classes, n_bits, 2**n_bits)
    return _distinct(n_classes, n_bits, generator(seed))


def far_apart_codes(n_classes: int, n_bits: int, seed: int, candidates: int = 4000) -> Tensor:
    """Farthest-first selection: always the random candidate farthest from its nearest chosen code.

    Up to 12 bits every possible code is a candidate. 200 classes get a minimal distance of 2, 7, 10, 17 at 12, 24, 32,
    48 bits, where random codes have about 1, 3, 6, 11.

    Raises:
        DataError: when there are more classes than codes.
    """
    _check_enough(n_classes, n_bits, 2**n_bits)
    pool = _distinct(2**n_bits if n_bits <= 12 else max(candidates, n_classes), n_bits, generator(seed))
    chosen = [0]
    nearest = _distances(pool, pool[:1])[:, 0]
    while len(chosen) < n_classes:
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, _distances(pool, pool[chosen[-1:]])[:, 0])
    return pool[chosen]


def place_by_similarity(
    codes: Tensor,
    similarity: Tensor,
    seed: int,
    starts: int = 4,
    progress: StageProgress = lambda done, total, what: None,
) -> Tensor:
    """Assign codes so that similar classes get near codes: raise sum_ij S_ij <b_i, b_j> over all pairs of classes.

    From a random order, each class in turn swaps its code with the class that raises the sum most, until no swap raises
    it; the best of ``starts`` such local optima is kept. (A global optimum is intractable.) A visit of a class takes
    time in proportion to classes times bits. So more than `MANY_CLASSES` have one start, at most `MOST_SWEEPS` visits
    each and `MOST_WORK` in all.

    Args:
        codes: (n_classes, n_bits) signs.
        similarity: S, (n_classes, n_classes); its diagonal does not matter.
        seed: seed of the random orders.
        starts: number of orders.
        progress: called where there are many classes, with visits done and the most there are.

    Returns:
        The same codes, (n_classes, n_bits), row k for class k.
    """
    random = np.random.default_rng(seed)
    n, n_bits = codes.shape
    many = n > MANY_CLASSES
    kind: type[np.floating[Any]] = np.float32 if many else np.float64
    signs = codes.cpu().numpy().astype(kind)
    s = similarity.cpu().numpy().astype(kind)
    s = (s + s.T) / 2
    np.fill_diagonal(s, 0)
    most = min(MOST_SWEEPS * n, MOST_WORK // (n * n_bits)) if many else None
    placements = []
    for _ in range(1 if many else starts):
        placements.append(Placement(signs, s, random))
        placements[-1].exchange(random, most, progress)
    best = max(placements, key=Placement.objective).order
    return codes[torch.from_numpy(best).to(codes.device)]


class Placement:
    """Codes assigned to classes, with the products from which the gain of every swap is read."""

    def __init__(self, signs: Floats, s: Floats, random: np.random.Generator) -> None:
        """``signs``: (n, c) codes; ``s``: (n, n) similarities, symmetric with a diagonal of 0. The order is random."""
        self.order = random.permutation(len(signs))
        self.s = s
        self.codes = signs[self.order]
        self.pulls = s @ self.codes
        """(n, c) sum_k S_jk b_k of each class j."""
        self.own = (self.codes * self.pulls).sum(axis=1)
        """(n,) sum_k S_jk <b_j, b_k> of each class j."""
        self._products = np.empty_like(self.pulls)  # memory that is new for each swap would cost more than the sum

    def objective(self) -> float:
        """sum_jk S_jk <b_j, b_k>."""
        return float(self.own.sum(dtype=np.float64))

    def gains(self, i: int) -> Floats:
        """Half of the objective's gain when class i swaps its code with each other class; (n,), 0 for i itself."""
        # Of j: sum_k (S_ik - S_jk) (G_jk - G_ik), G the inner products of the codes, whose diagonal is c; the last term
        # takes k = i and k = j, which a swap leaves alone, out of the sum.
        near = self.codes @ self.codes[i]
        gains: Floats = (
            self.codes @ self.pulls[i]
            + self.pulls @ self.codes[i]
            - self.own
            - self.own[i]
            - 2 * self.s[i] * (self.codes.shape[1] - near)
        )
        return gains

    def swap(self, i: int, j: int) -> None:
        """Exchange the codes of two classes."""
        change, weights = self.codes[j] - self.codes[i], self.s[i] - self.s[j]
        self.pulls += np.outer(weights, change, out=self._products)
        self.own += weights * (self.codes @ change)
        self.codes[[i, j]] = self.codes[[j, i]]
        self.order[[i, j]] = self.order[[j, i]]
        for swapped in (i, j):
            self.own[swapped] = self.codes[swapped] @ self.pulls[swapped]

    def exchange(self, random: np.random.Generator, most: int | None, progress: StageProgress) -> None:
        """Visit all classes in random orders until no swap raises the objective, or ``most`` visits are done."""
        least = (1e-9 if most is None else 1e-3) * float(np.abs(self.s).max())  # else rounding could loop forever
        done, raised = 0, True
        while raised and done != most:
            raised = False
            for i in random.permutation(len(self.codes)).tolist()[: most and most - done]:
                gains = self.gains(i)
                j = int(gains.argmax())
                if gains[j] > least:
                    self.swap(i, j)
                    raised = True
                done += 1
                if most and done % 100 == 0:
                    progress(done, most, "visits of classes, whose codes are being placed")
        if most:
            progress(most, most, "visits of classes, whose codes are being placed")


def class_means(features: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """(n, ...) of photos with class numbers (n,) -> (n_classes, ...); 0 for a class without photos."""
    sums = features.new_zeros(n_classes, *features.shape[1:]).index_add_(0, labels, features)
    counts = torch.bincount(labels, minlength=n_classes).clamp(min=1)
    return sums / counts.view(-1, *[1] * (features.ndim - 1))


def class_similarity(means: Tensor) -> Tensor:
    """Cosines of class means (n_classes, n_features) after each feature is standardised over the classes.

    Otherwise what all photos have in common would make all classes similar.
    """
    centred = means - means.mean(dim=0)
    deviation = centred.std(dim=0, correction=0)
    scaled = F.normalize(centred / torch.where(deviation > 1e-6, deviation, 1.0), dim=1)
    return scaled @ scaled.T


class ClassCodes(HashMethod):
    """A method that trains the network towards one fixed code for each class, which are also its learned codes."""

    learned_source = "class codes"

    codes: Tensor
    """(n_classes, n_bits) signs; with label sets, one for each of these."""

    def __init__(
        self, backbone: Backbone, head: HeadChoice, sizes: Sizes, codes: Tensor, *, norm_logits: bool = False
    ) -> None:
        super().__init__(backbone, sizes)
        self.head: HashHead = HashHead(head, backbone.n_features, sizes.n_bits, norm_logits=norm_logits)
        self.wants_features = head.standardise
        self.register_buffer("codes", codes)

    def fit(self, features: Tensor, labels: Tensor) -> None:
        self.head.fit(features)

    def learned_codes(self, labels: Tensor) -> Tensor:
        return self.codes[labels]


def _check_enough(n_classes: int, n_bits: int, n_codes: int) -> None:
    if n_classes > n_codes:
        raise DataError(f"{n_bits} bits give {n_codes} such codes, too few for {n_classes} classes. Use more bits")


def _distinct(n: int, n_bits: int, random: torch.Generator) -> Tensor:
    """n different random codes, or all possible ones; (n, n_bits)."""
    if n_bits <= 16:  # drawing until every code has occurred would take long
        numbers = torch.randperm(2**n_bits, generator=random)[:n]
        return (numbers[:, None] >> torch.arange(n_bits) & 1) * 2.0 - 1
    codes = torch.empty(0, n_bits)
    while len(codes) < n:
        drawn = torch.randint(0, 2, (n - len(codes), n_bits), generator=random) * 2.0 - 1
        codes = torch.unique(torch.cat([codes, drawn]), dim=0)
    return codes[torch.randperm(n, generator=random)]  # `unique` sorts


def _distances(codes: Tensor, others: Tensor) -> Tensor:
    """Hamming distances of signs (n, n_bits) and (m, n_bits) -> (n, m)."""
    return (codes.shape[1] - codes @ others.T) / 2
