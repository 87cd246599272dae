"""Loss and code step of the ADSH family, summed per class, compared with the literal m x N form.

    python benchmarks/code_step.py

Each measurement runs in its own process, for its own peak memory. A round is one loss with its gradient for `--samples`
photos in batches of 64, and one code step. The literal form builds the m x N matrix of similarities of the papers.
Prints a Markdown table; times are medians.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from milvus_fghash.methods.asymmetric import PairTarget, dissimilarity, solve_codes

GAMMA = 200.0


@dataclass(frozen=True)
class Case:
    form: str
    photos: int
    classes: int
    samples: int
    bits: int


def per_class(case: Case, u: Tensor, signs: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
    r = dissimilarity(labels[rows], labels, case.classes)
    target = PairTarget.of(signs, labels, r, case.classes)
    for part, of_part in zip(torch.split(u, 64), torch.split(rows, 64), strict=True):
        leaf = part.clone().requires_grad_()
        target.loss(leaf, labels[of_part]).sum().backward()  # type: ignore[no-untyped-call]
    return solve_codes(signs, u, rows, labels, r, case.classes, GAMMA)


def literal(case: Case, u: Tensor, signs: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
    same = (labels[rows][:, None] == labels[None, :]).float()
    r = same.sum() / (1 - same).sum()
    similarity = same * (1 + r) - r
    for part, of_part in zip(torch.split(u, 64), torch.split(similarity, 64), strict=True):
        leaf = part.clone().requires_grad_()
        (leaf @ signs.T - case.bits * of_part).square().sum().backward()  # type: ignore[no-untyped-call]
    q = -2 * case.bits * similarity.T @ u
    q[rows] -= 2 * GAMMA * u
    solved = signs.clone()
    for k in range(case.bits):
        others = [column for column in range(case.bits) if column != k]
        slope = 2 * solved[:, others] @ (u[:, others].T @ u[:, k]) + q[:, k]
        solved[:, k] = torch.where(slope <= 0, 1.0, -1.0)
    return solved


def measure(case: Case, repeats: int, codes: Path) -> dict[str, float]:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(case.photos) % case.classes
    # In place, so that creating the data does not hide the measured peak.
    signs = torch.empty(case.photos, case.bits).bernoulli_(generator=random).mul_(2).sub_(1)
    rows = torch.randperm(case.photos, generator=random)[: case.samples]
    u = torch.tanh(torch.randn(case.samples, case.bits, generator=random))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = {"per class": per_class, "m x N": literal}[case.form]
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        solved = run(case, u, signs, rows, labels)
        seconds.append(time.perf_counter() - started)
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    np.save(codes, np.packbits(solved.numpy() > 0))
    return {"seconds": statistics.median(seconds), "megabytes": more / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", default="25000,1000000", help="Sizes for the form summed per class.")
    parser.add_argument("--literal-photos", default="25000", help="Sizes for the m x N form.")
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--bits", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--codes", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(Case(**json.loads(arguments.case)), arguments.repeats, arguments.codes)))
        return
    sizes = [("m x N", int(n)) for n in arguments.literal_photos.split(",")]
    sizes += [("per class", int(n)) for n in arguments.photos.split(",")]
    print("| form | photos N | round, s | additional peak memory, MB |\n|---|---|---|---|")
    seconds: dict[tuple[str, int], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for form, photos in sizes:
            case = Case(form, photos, arguments.classes, arguments.samples, arguments.bits)
            command = [sys.executable, __file__, "--repeats", str(arguments.repeats), "--case", json.dumps(vars(case))]
            command += ["--codes", f"{folder}/{form} {photos}.npy"]
            measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            seconds[form, photos] = measured["seconds"]
            print(f"| {form} | {photos:,} | {measured['seconds']:.2f} | {measured['megabytes']:.0f} |", flush=True)
        for photos in sorted({n for form, n in sizes if ("m x N", n) in seconds and ("per class", n) in seconds}):
            literal_codes, codes = (np.load(f"{folder}/{form} {photos}.npy") for form in ("m x N", "per class"))
            ratio = seconds["m x N", photos] / seconds["per class", photos]
            differing = int(np.bitwise_count(literal_codes ^ codes).sum())
            print(
                f"\nAt N = {photos:,} summing per class is {ratio:.0f} times as fast, and {differing} of "
                f"{photos * arguments.bits:,} bits differ (rounding)."
            )


if __name__ == "__main__":
    main()
