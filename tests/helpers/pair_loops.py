"""The pairs of a second step, listed one by one: what the pairwise methods' tests compare with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from milvus_fghash.methods.base import Batch
from tests.helpers.small_method import BITS, LABELS, ROWS, WIDTH, N, batch, made

Pair = tuple[Tensor, Tensor, bool]
"""Logits of a photo of the batch, remembered outputs of another one, and whether both are of one class."""


def batch_of(rows: tuple[int, ...], seed: int) -> Batch:
    """Photos with random features of their own."""
    features = torch.randn(len(rows), WIDTH, generator=torch.Generator().manual_seed(seed))
    return replace(batch(rows=rows), features={"anchor": features})


def second_step(module: Any, slope: float = 0.0, **options: Any) -> tuple[Any, dict[str, Tensor], Tensor, list[Pair]]:
    """Photos 3 and 0 in a first step, 5 and 0 in a second; photo 1 of the round is not seen, 2, 4, 6, 7 not drawn.

    Args:
        module: the method's.
        slope: outputs are tanh(slope z), or z for 0.
        options: of the method.

    Returns:
        The method, the terms of its second loss, the second step's outputs (2, n_bits), and its pairs.
    """
    method = made(module, **options)
    method.bank.keep(torch.tensor([7]), torch.full((1, method.sizes.n_bits), 9.0))  # remembered from an earlier round
    first, second = batch_of((3, 0), seed=1), batch_of((5, 0), seed=2)
    z = [method.head(step.features["anchor"]) for step in (first, second)]
    before, u = (torch.tanh(slope * value) if slope else value for value in z)
    method.loss(first)
    terms = method.loss(second)
    remembered = {3: before[0].detach(), 5: u[0].detach(), 0: u[1].detach()}
    pairs = [
        (u[place], other, bool(LABELS[row] == LABELS[other_row]))
        for place, row in enumerate((5, 0))
        for other_row, other in remembered.items()
        if other_row != row
    ]
    assert [similar for *_, similar in pairs] == [False, False, True, False]
    return method, terms, u, pairs


def pairs_by_loops(method: Any, u: Tensor, rows: Tensor) -> float:
    """sum_i sum_j (u_i . v_j - c S_ij)^2 with S from the m x N block of the round."""
    ones = sum(int(LABELS[i] == LABELS[j]) for i in ROWS for j in range(N))
    r = ones / (len(ROWS) * N - ones)
    total = 0.0
    for i, row in enumerate(rows):
        for j in range(N):
            s = 1.0 if LABELS[row] == LABELS[j] else -r
            total += float(u[i] @ method.signs[j] - BITS * s) ** 2
    return total
