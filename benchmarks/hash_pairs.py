"""Time and memory of finding all near pairs of perceptual hashes, and whether planted ones are all found.

    python benchmarks/hash_pairs.py --data PHOTOS --rows 1000000

The hashes have the statistics of real ones: for each row, the bits of shapes of one photo below PHOTOS with some of
them flipped, and the bits of colours of another one. Every hundredth row is a copy of an earlier one, in which as many
bits are flipped as `--within` allows. Grouping is that of `dedupe`, without Milvus.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))  # for the other benchmark

from benchmarks.perceptual import hash_of
from milvus_fghash.core.perceptual_hash import BITS, MAX_COPY_DISTANCE, NO_HASH
from milvus_fghash.dedupe.grouping import Census, alike_by_phash, find_groups

COLOUR_BITS = 30
FLIPPED = 8
"""Bits of shapes that are flipped, of 34: as far as photos of one kind are apart."""
EACH = 100
"""One row of so many is a copy."""


def with_flips(values: NDArray[np.uint64], n_flips: int, bits: range, rng: np.random.Generator) -> NDArray[np.uint64]:
    """The values with this number of different bits flipped."""
    flipped = values.copy()
    for part in np.array_split(flipped, len(values) // 10_000 + 1):  # views; little memory, which is measured later
        places = np.argsort(rng.random((len(part), len(bits))), axis=1)[:, :n_flips] + bits.start
        part ^= (np.uint64(1) << places.astype(np.uint64)).sum(axis=1, dtype=np.uint64)
    return flipped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=float, default=1e6)
    parser.add_argument("--within", type=int, default=MAX_COPY_DISTANCE)
    parser.add_argument("--photos", type=int, default=1000, help="number of photos whose hashes are used")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    n, rng = int(arguments.rows), np.random.default_rng(arguments.seed)
    files = sorted(path for path in arguments.data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    drawn = [files[at] for at in rng.permutation(len(files))[: arguments.photos]]
    real = np.array([value for file in drawn if (value := hash_of(file)) != NO_HASH], np.int64).view(np.uint64)
    of_colours = np.uint64(2**COLOUR_BITS - 1)
    shapes = with_flips(rng.choice(real, n), FLIPPED, range(COLOUR_BITS, BITS), rng)
    hashes = (rng.choice(real, n) & of_colours) | (shapes & ~of_colours)
    copied = np.arange(EACH, n, EACH)
    originals = copied - rng.integers(1, EACH, len(copied))
    hashes[copied] = with_flips(hashes[originals], arguments.within, range(BITS), rng)
    ids = [f"{row:032x}" for row in range(n)]
    contents = [""] * n
    codes = rng.integers(0, 256, (n, 8), np.uint8)
    census = Census.of([(ids, codes, contents, hashes.view(np.int64).tolist())], 8)
    tracemalloc.start()  # NumPy's arrays too
    started = time.process_time()
    groups = list(find_groups(census, alike_by_phash(census, arguments.within), None))
    seconds = time.process_time() - started
    _now, peak = tracemalloc.get_traced_memory()
    group_of = np.full(n, -1)
    for number, (_kind, rows) in enumerate(groups):
        group_of[rows] = number
    found = (group_of[copied] == group_of[originals]) & (group_of[copied] >= 0)
    largest = max((len(rows) for _kind, rows in groups), default=0)
    of = f"{n:,} hashes within {arguments.within} bits"
    print(f"{of}: {seconds:.1f} s of one core, {peak / 2**20:.0f} MB beside the rows")
    print(f"{len(groups):,} groups, the largest of {largest:,}")
    print(f"{found.sum():,} of {len(copied):,} planted copies found")


if __name__ == "__main__":
    main()
